/*
 * The floor of the benchmark: runs the programs that a runtime needs, one by one, and measures each. Commands come on
 * stdin, one a line, words separated by tabs; each is answered by "NANOSECONDS STATUS".
 *
 *   netns PATH                     pins a new network namespace (not measured)
 *   unpin PATH                     takes it away (not measured)
 *   run STDIN [K=V...] FILE ARG... a program from its start to its end
 *   create [K=V...] FILE ARG...    conmon, until it reports the process of the container
 *   stop EXITFILE                  SIGTERM to that process, until conmon has written its exit code
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORDS 256

extern char **environ;
static pid_t container;
static int own_netns;

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void nap(long nanoseconds) {
  struct timespec time = {0, nanoseconds};
  nanosleep(&time, NULL);
}

static int pin(const char *path) {
  int fd = open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0444);
  if (fd < 0) return 1;
  close(fd);
  if (unshare(CLONE_NEWNET) < 0) return 1;
  int failed = mount("/proc/self/ns/net", path, "none", MS_BIND, NULL) < 0;
  return setns(own_netns, CLONE_NEWNET) < 0 || failed;
}

static int unpin(const char *path) {
  return umount2(path, MNT_DETACH) < 0 || unlink(path) < 0;
}

/* Leading K=V words go into the environment; returns the first word of the command line. */
static char **take_environment(char **words) {
  for (; *words != NULL && strchr(*words, '=') != NULL && (*words)[0] != '/' && (*words)[0] != '-'; words++) putenv(*words);
  return words;
}

static pid_t start(char **argv, const char *input, const char *output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  pid_t pid = -1;
  if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) != 0) pid = -1;
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

static int finish(pid_t pid) {
  int status = 0;
  if (pid < 0) return 127;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return 126;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int create(char **argv) {
  int sync_pipe[2], start_pipe[2];
  if (pipe(sync_pipe) < 0 || pipe(start_pipe) < 0) return 1;
  fcntl(sync_pipe[0], F_SETFD, FD_CLOEXEC);
  fcntl(start_pipe[1], F_SETFD, FD_CLOEXEC);
  char text[32];
  snprintf(text, sizeof text, "%d", sync_pipe[1]);
  setenv("_OCI_SYNCPIPE", text, 1);
  snprintf(text, sizeof text, "%d", start_pipe[0]);
  setenv("_OCI_STARTPIPE", text, 1);
  pid_t pid = start(argv, "/dev/null", "/dev/null");
  close(sync_pipe[1]);
  close(start_pipe[0]);
  int failed = write(start_pipe[1], "x", 1) != 1;
  close(start_pipe[1]);
  char line[4096] = "";
  size_t length = 0;
  ssize_t part;
  while (length < sizeof line - 1 && (part = read(sync_pipe[0], line + length, sizeof line - 1 - length)) > 0) {
    length += (size_t)part;
    if (memchr(line, '\n', length) != NULL) break;
  }
  line[length] = '\0';
  close(sync_pipe[0]);
  int status = finish(pid);
  unsetenv("_OCI_SYNCPIPE");
  unsetenv("_OCI_STARTPIPE");
  /* {"data":PID} of newer conmon, {"pid":PID} of older ones; negative for an error. */
  const char *colon = strchr(line, ':');
  container = colon == NULL ? -1 : atoi(colon + 1);
  if (container <= 0) fprintf(stderr, "conmon: %s\n", line);
  return failed || container <= 0 ? 1 : status;
}

static int stop(const char *exit_file) {
  /* It may have ended already: the exit file tells. */
  if (kill(container, SIGTERM) < 0 && errno != ESRCH) return 1;
  for (int tries = 0; access(exit_file, F_OK) < 0; tries++) {
    if (tries == 1000) kill(container, SIGKILL);
    if (tries > 600000) return 1;
    nap(100000);
  }
  return 0;
}

static int serve(char **words, long long *begin) {
  const char *verb = words[0];
  if (strcmp(verb, "netns") == 0) return pin(words[1]);
  if (strcmp(verb, "unpin") == 0) return unpin(words[1]);
  if (strcmp(verb, "stop") == 0) return stop(words[1]);
  if (strcmp(verb, "create") == 0) {
    char **argv = take_environment(words + 1);
    *begin = now();
    return create(argv);
  }
  if (strcmp(verb, "run") == 0) {
    char **argv = take_environment(words + 2);
    *begin = now();
    return finish(start(argv, words[1], "/dev/null"));
  }
  return 125;
}

int main(void) {
  static char line[65536];
  char *words[MAX_WORDS + 1];
  own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  while (fgets(line, sizeof line, stdin) != NULL) {
    /* putenv keeps the pointer, so each line has memory of its own while the process lives. */
    char *copy = strdup(line);
    copy[strcspn(copy, "\n")] = '\0';
    int count = 0;
    for (char *word = strtok(copy, "\t"); word != NULL && count < MAX_WORDS; word = strtok(NULL, "\t")) words[count++] = word;
    words[count] = NULL;
    if (count < 2) continue;
    long long begin = now();
    int status = serve(words, &begin);
    printf("%lld %d\n", now() - begin, status);
    fflush(stdout);
  }
  return 0;
}
