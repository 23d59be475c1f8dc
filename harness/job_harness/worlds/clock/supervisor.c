/* Owns the time, the chance and the order of a tree of processes, from outside: nothing is loaded into any of them.
 *
 * ptrace and seccomp bring here the calls that read a clock, may wait, or ask for chance; everything else runs at full
 * speed. A thread that would wait does not enter the kernel: it stands at its stop until what it waits for is there or
 * its virtual time has come. So one thread runs at a time, and the order is ours. */

#include "world.h"

static struct options options = {.seed = 0, .start = 1767225600000LL, .budget = 256, .spin_milliseconds = 2000, .control_in = -1, .control_out = -1, .sockets = -1, .watch = -1};

/* One unit: the parts see each other, and the compiler sees all. */
#include "world.c"
#include "clocks.c"
#include "calls.c"
#include "events.c"
#include "order.c"
#include "control.c"

static int mounts = -1;
static struct rlimit files; /* as we found it: we need more, for we hold what each thread waits for */
static pid_t guardian;
static const char *pids = "the machine's";

static void ignore(int signo) { (void)signo; }

static void make_page(bool own_namespace) {
  shared_id = shmget(IPC_PRIVATE, 8192, IPC_CREAT | (own_namespace ? 0777 : 0700));
  void *at = shared_id < 0 ? (void *)-1 : shmat(shared_id, NULL, 0);
  if (at == (void *)-1) {
    shared_id = -1; at = aligned_alloc(4096, 8192);
    if (!at) fatal("no memory");
  } else shmctl(shared_id, IPC_RMID, NULL); /* it lives as long as somebody has it */
  page = at; memset(at, 0, 8192); page->mono = 5 * SECOND; page->wall = options.start * 1000000 - page->mono;
  page->step = 100; page->slow = 0;
#if HAVE_FAST_CLOCK
  memcpy((char *)at + PAGE_CODE, fast_clock, (size_t)(fast_end - fast_clock));
#endif
}

/* Who may not make a namespace of processes may make one of users first, in which he is who he was. */
static bool own_namespace(void) {
  int spaces = CLONE_NEWPID | CLONE_NEWIPC | (options.own_net ? CLONE_NEWNET : 0);
  if (!unshare(spaces)) return true;
  uid_t user = geteuid(), group = getegid();
  if (unshare(CLONE_NEWUSER | spaces)) return false;
  const char *files[] = {"/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/gid_map"};
  for (int i = 0; i < 3; i++) {
    FILE *f = fopen(files[i], "we");
    if (f && i) fprintf(f, "%u %u 1", i == 1 ? user : group, i == 1 ? user : group);
    else if (f) fputs("deny", f);
    if (f) fclose(f);
  }
  return true;
}

static void raise_loopback(void) {
  struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (ioctl(fd, SIOCSIFFLAGS, &lo)) fatal("the loopback interface cannot be set up: %s", strerror(errno));
  close(fd);
}

/* The first process of the namespace takes orphans in, and when it ends, all of them end. */
static void make_namespace(void) {
  int ready[2], orders[2];
  char byte;
  if (options.plain_pids || !own_namespace()) {
    if (options.own_net) fatal("no namespaces of processes and networks can be made here (%s): in a container, add the capability SYS_ADMIN", strerror(errno));
    return;
  }
  if (options.own_net) raise_loopback();
  if (pipe2(ready, O_CLOEXEC) || pipe2(orders, O_CLOEXEC)) fatal("no pipe: %s", strerror(errno));
  guardian = fork();
  if (!guardian) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    signal(SIGCHLD, SIG_IGN);
    bool fine = !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) && !mount("proc", "/proc", "proc", 0, NULL);
    for (int i = 0; i < options.mount_count; i += 2) fine &= !mount(options.mounts[i], options.mounts[i + 1], NULL, MS_BIND, NULL);
    byte = fine ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    for (int fd = 0; fd < 1024; fd++) if (fd != orders[0] && fd != ready[1]) close(fd);
    for (int32_t pid; read(orders[0], &pid, sizeof pid) == sizeof pid;) { /* the number of the process that was made last */
      int last = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
      if (last >= 0) dprintf(last, "%d", pid);
      close(last);
      if (write(ready[1], &byte, 1) != 1) _exit(1);
    }
    for (;;) pause();
  }
  close(ready[1]); close(orders[0]);
  if (guardian < 0 || read(ready[0], &byte, 1) != 1) fatal("no process: %s", strerror(errno));
  if (byte != 'y' && options.mount_count) fatal("no files can be mounted here: in a container, add the capability SYS_ADMIN");
  guard_in = orders[1]; guard_out = ready[0];
  if (byte == 'y') {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", guardian);
    mounts = open(path, O_RDONLY | O_CLOEXEC);
  }
  pids = "of their own";
}

/* Starts a program; it runs once the supervisor has taken charge of it. `out` stands in for its output, or -1. */
static int spawn(char **argv, char **envp, const char *cwd, int out) {
  int gate[2];
  char byte = 0;
  if (pipe2(gate, O_CLOEXEC)) return -1;
  pid_t pid = fork();
  if (!pid) {
    setsid(); /* no terminal is its own */
    char here[4096];
    if (!cwd) cwd = getcwd(here, sizeof here);
    if (mounts >= 0) setns(mounts, CLONE_NEWNS);
    if (cwd && chdir(cwd)) _exit(126);
    if (out >= 0 && (dup2(out, 1) < 0 || dup2(out, 2) < 0)) _exit(126);
    personality(ADDR_NO_RANDOMIZE);
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_DFL);
    close(gate[1]);
    if (read(gate[0], &byte, 1) != 1) _exit(126);
#if defined(__x86_64__)
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
#endif
    if (filter_install()) _exit(126);
    if (envp) execvpe(argv[0], argv, envp);
    else execvp(argv[0], argv);
    dprintf(2, "clock: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
  }
  close(gate[0]);
  if (pid > 0) {
    adopt(pid);
    if (!first_process) first_process = pid;
    if (write(gate[1], &byte, 1) != 1) fatal("a process ended before it began");
  }
  close(gate[1]);
  return pid;
}

static void report(double real, int64_t begun) {
  struct rusage self, children;
  getrusage(RUSAGE_SELF, &self);
  getrusage(RUSAGE_CHILDREN, &children);
  double mine = (double)(self.ru_utime.tv_sec + self.ru_stime.tv_sec) + (double)(self.ru_utime.tv_usec + self.ru_stime.tv_usec) / 1e6;
  double theirs = (double)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) + (double)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1e6;
  fprintf(stderr,
          "{\"clock\": 1, \"code\": %d, \"virtual\": %.9f, \"real\": %.3f, \"supervisor_cpu\": %.3f, \"program_cpu\": %.3f, \"stops\": %llu, \"turns\": %llu, "
          "\"jumps\": %llu, \"choices\": %llu, \"clock_stops\": %llu, \"tscs\": %llu, \"threads\": %llu, \"processes\": %llu, \"preempted\": %llu, \"blocked\": %llu, "
          "\"pids\": \"%s\", \"hash\": \"%016llx\"}\n",
          world_code, (double)(page->mono - begun) / 1e9, real, mine, theirs, (unsigned long long)counts.stops, (unsigned long long)counts.turns,
          (unsigned long long)counts.jumps, (unsigned long long)counts.choices, (unsigned long long)counts.clock_stops, (unsigned long long)counts.tscs, (unsigned long long)counts.threads,
          (unsigned long long)counts.processes, (unsigned long long)counts.preempted, (unsigned long long)counts.blocked_in_kernel, pids,
          (unsigned long long)counts.hash);
}

/* Ends whatever is left: a killed process reports to us, the rest to the kernel. */
static void end_all(void) {
  for (int i = 0; i < MAX_PROCESSES; i++) if (processes[i].pid) kill(processes[i].pid, SIGKILL);
  if (guardian > 0) kill(guardian, SIGKILL);
  for (int status; waitpid(-1, &status, __WALL) > 0 || errno == EINTR;) {}
}

static const char usage[] = "supervisor [--seed N] [--start MS] [--shuffle | --tape K,K...] [--budget CALLS] [--limit SECONDS] [--spin MS] [--outside MS]\n"
                            "           [--plain-pids] [--slow-clock] [--any-processor] [--log FILE] [--stats] (--control IN,OUT | -- COMMAND...)\n";

static char **parse(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
    if (!strcmp(o, "--")) return argv + i + 1;
    if (!strcmp(o, "--shuffle")) options.shuffle = true;
    else if (!strcmp(o, "--stats")) options.stats = true;
    else if (!strcmp(o, "--plain-pids")) options.plain_pids = true;
    else if (!strcmp(o, "--slow-clock")) options.slow_clock = true;
    else if (!strcmp(o, "--any-processor")) options.no_pin = true;
    else if (!strcmp(o, "--own-net")) options.own_net = true;
    else if (!strcmp(o, "--hold-sleeps")) options.hold_sleeps = true;
    else {
      i++;
      if (!strcmp(o, "--seed")) options.seed = strtoull(v, NULL, 10);
      else if (!strcmp(o, "--start")) options.start = atoll(v);
      else if (!strcmp(o, "--budget")) options.budget = atol(v);
      else if (!strcmp(o, "--limit")) options.limit_seconds = atol(v);
      else if (!strcmp(o, "--sockets")) options.sockets = atoi(v);
      else if (!strcmp(o, "--watch")) options.watch = atoi(v);
      else if (!strcmp(o, "--store")) options.store_port = atoi(v);
      else if (!strcmp(o, "--mount") && strchr(v, ':') && options.mount_count < 16) {
        options.mounts[options.mount_count++] = strdup(v); options.mounts[options.mount_count++] = (char *)strchr(v, ':') + 1;
        *strchr(options.mounts[options.mount_count - 2], ':') = 0;
      }
      else if (!strcmp(o, "--spin")) options.spin_milliseconds = atol(v);
      else if (!strcmp(o, "--outside")) options.outside_milliseconds = atol(v);
      else if (!strcmp(o, "--tape")) for (char *part = strtok((char *)v, ","); part; part = strtok(NULL, ",")) extend_tape(part);
      else if (!strcmp(o, "--log")) log_file = fopen(v, "we");
      else if (!strcmp(o, "--control") && sscanf(v, "%d,%d", &options.control_in, &options.control_out) == 2) continue;
      else { fprintf(stderr, "clock: %s is not known\n%s", o, usage); exit(2); }
    }
  }
  return argv + argc;
}

static void run(void) {
  for (;;) {
    int status;
    if (current) {
      struct thread *t = current;
      if (await_stop(t, &status) && current) handle_stop(current, status);
      continue;
    }
    enum choice c = choose(NEVER);
    if (c == ENDED) return;
    if (c == AT_REST) { /* for ever, but for what comes from outside */
      struct epoll_event e;
      struct timespec nap = {0, 2000000};
      if (held_total) epoll_wait(poller, &e, 1, 50);
      else nanosleep(&nap, NULL);
      watch_limit(thread_count ? threads[0] : NULL);
    }
  }
}

int main(int argc, char **argv) {
  char **command = parse(argc, argv);
  struct timespec a, b;
  if (!*command && options.control_in < 0) { fputs(usage, stderr); return 2; }
  clock_gettime(CLOCK_MONOTONIC, &a);
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  if (!options.no_pin) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  shuffling = options.seed ^ 0x5bd1e995;
  getrlimit(RLIMIT_NOFILE, &files);
  setrlimit(RLIMIT_NOFILE, &(struct rlimit){files.rlim_max, files.rlim_max});
  make_namespace();
  make_page(guardian > 0);
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct sigaction s = {.sa_handler = ignore};
  sigaction(SIGALRM, &s, NULL);
  struct itimerval beat = {{0, 10000}, {0, 10000}};
  setitimer(ITIMER_REAL, &beat, NULL);
  int64_t begun = page->mono;
  atexit(end_all); /* when we give up, too */
  if (options.control_in >= 0) serve();
  else if (spawn(command, NULL, NULL, -1) < 0) fatal("no process: %s", strerror(errno));
  else run();
  setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
  end_all();
  clock_gettime(CLOCK_MONOTONIC, &b);
  if (options.stats) report((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9, begun);
  if (log_file) fclose(log_file);
  return world_code;
}
