// The streaming client of kubectl (client-go), against a URL of the kubelet's own API.
//
//	client stream  [-websocket] [-stdin] [-tty] [-sizes 80x24,100x30] URL   exec or attach; exits with the command's code
//	client forward [-websocket] URL PORT...                                 prints "LOCAL PORT" lines, ends with its stdin
//
// SIGUSR1 sends the next of the terminal sizes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

const failureCode = 250

// The kubelet signs its own certificate.
var config = &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: client stream|forward [FLAG...] URL [PORT...]"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	webSocket := flags.Bool("websocket", false, "WebSocket instead of SPDY")
	stdin := flags.Bool("stdin", false, "send what comes on stdin")
	tty := flags.Bool("tty", false, "the command has a terminal")
	sizes := flags.String("sizes", "", "terminal sizes, COLUMNSxROWS")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	target, err := url.Parse(flags.Arg(0))
	if err != nil {
		fail(err)
	}
	if os.Args[1] == "forward" {
		err = forward(target, *webSocket, flags.Args()[1:])
	} else {
		err = stream(target, *webSocket, options(*stdin, *tty, *sizes))
	}
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		os.Exit(exit.Code)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "client:", err)
	os.Exit(failureCode)
}

func options(stdin, tty bool, sizes string) remotecommand.StreamOptions {
	result := remotecommand.StreamOptions{Stdout: os.Stdout, Stderr: os.Stderr, Tty: tty}
	if stdin {
		result.Stdin = os.Stdin
	}
	if tty {
		result.Stderr = nil
		result.TerminalSizeQueue = newSizeQueue(sizes)
	}
	return result
}

func stream(target *url.URL, webSocket bool, options remotecommand.StreamOptions) error {
	query := target.Query()
	set := func(name string, wanted bool) {
		if wanted {
			query.Set(name, "1")
		}
	}
	set("input", options.Stdin != nil)
	set("output", true)
	set("error", options.Stderr != nil)
	set("tty", options.Tty)
	target.RawQuery = query.Encode()
	executor, err := newExecutor(target, webSocket)
	if err != nil {
		return err
	}
	return executor.StreamWithContext(context.Background(), options)
}

func newExecutor(target *url.URL, webSocket bool) (remotecommand.Executor, error) {
	if webSocket {
		return remotecommand.NewWebSocketExecutor(config, http.MethodGet, target.String())
	}
	return remotecommand.NewSPDYExecutor(config, http.MethodPost, target)
}

func forward(target *url.URL, webSocket bool, ports []string) error {
	dialer, err := newDialer(target, webSocket)
	if err != nil {
		return err
	}
	anyLocal := make([]string, len(ports))
	for i, port := range ports {
		anyLocal[i] = "0:" + port
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, anyLocal, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	go func() {
		<-ready
		forwarded, _ := forwarder.GetPorts()
		for _, port := range forwarded {
			fmt.Println(port.Local, port.Remote)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	return forwarder.ForwardPorts()
}

func newDialer(target *url.URL, webSocket bool) (httpstream.Dialer, error) {
	if webSocket {
		return portforward.NewSPDYOverWebsocketDialer(target, config)
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target), nil
}

type sizeQueue struct {
	next chan os.Signal
	left []string
	sent bool
}

func newSizeQueue(sizes string) remotecommand.TerminalSizeQueue {
	if sizes == "" {
		return nil
	}
	queue := &sizeQueue{next: make(chan os.Signal, 8), left: strings.Split(sizes, ",")}
	signal.Notify(queue.next, syscall.SIGUSR1)
	return queue
}

// Next blocks until there is a size to send; nil ends the queue.
func (queue *sizeQueue) Next() *remotecommand.TerminalSize {
	if queue.sent {
		<-queue.next
	}
	queue.sent = true
	if len(queue.left) == 0 {
		return nil
	}
	size := remotecommand.TerminalSize{}
	if _, err := fmt.Sscanf(queue.left[0], "%dx%d", &size.Width, &size.Height); err != nil {
		return nil
	}
	queue.left = queue.left[1:]
	return &size
}
