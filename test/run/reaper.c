/*
 * Runs a command as a child subreaper: everything that the command starts and abandons becomes our child and is reaped
 * at once. When the command has ended, waits up to five seconds for the rest, then writes what is still alive to the
 * file named first ("PID command line", one a line), ends it, and exits with the command's own code.
 *
 *   reaper LEFTOVERS COMMAND [ARG...]
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t main_child;

static void forward(int number) {
  if (main_child > 0) kill(main_child, number);
}

static int children(pid_t *out, int room) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
  FILE *file = fopen(path, "re");
  if (file == NULL) return 0;
  int count = 0;
  while (count < room && fscanf(file, "%d", &out[count]) == 1) count++;
  fclose(file);
  return count;
}

static void describe(FILE *out, pid_t pid) {
  char path[64], line[4096];
  snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
  if (fd >= 0) close(fd);
  if (length <= 0) length = snprintf(line, sizeof line, "(no command line)");
  for (ssize_t i = 0; i < length; i++)
    if (line[i] == '\0') line[i] = ' ';
  line[length] = '\0';
  fprintf(out, "%d %s\n", (int)pid, line);
}

static void nap(long milliseconds) {
  struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
  nanosleep(&time, NULL);
}

static int reap_until_empty(int milliseconds) {
  for (int waited = 0;; waited += 50) {
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
    }
    if (pid < 0 && errno == ECHILD) return 1;
    if (waited >= milliseconds) return 0;
    nap(50);
  }
}

static void end_leftovers(const char *path) {
  FILE *out = fopen(path, "we");
  pid_t pids[1024];
  for (int round = 0; round < 20; round++) {
    int count = children(pids, 1024);
    if (count == 0) break;
    for (int i = 0; i < count; i++) {
      if (out != NULL) describe(out, pids[i]);
      kill(pids[i], SIGKILL);
    }
    reap_until_empty(500);
  }
  if (out != NULL) fclose(out);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: reaper LEFTOVERS COMMAND [ARG...]\n");
    return 2;
  }
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
    perror("become child subreaper");
    return 1;
  }
  main_child = fork();
  if (main_child == 0) {
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    _exit(127);
  }
  signal(SIGTERM, forward);
  signal(SIGINT, forward);
  signal(SIGHUP, forward);
  int status = 0;
  for (;;) {
    int one;
    pid_t pid = waitpid(-1, &one, 0);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) break;
    if (pid == main_child) {
      status = one;
      break;
    }
  }
  if (!reap_until_empty(5000)) end_leftovers(argv[1]);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
