/* Tables of processes and threads, their memory, their descriptors, and chance. */

static int memories;

__attribute__((format(printf, 1, 2), noreturn)) static void fatal(const char *format, ...) {
  va_list list;
  va_start(list, format);
  char why[512];
  vsnprintf(why, sizeof why, format, list);
  va_end(list);
  fprintf(stderr, "clock: %s\n", why);
  tell_fatal(why);
  exit(125);
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("clock: ", stderr);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  va_end(list);
}

static int new_memory(void) { return ++memories; }

static int live_processes(void) {
  int n = 0;
  for (int i = 0; i < MAX_PROCESSES; i++) n += processes[i].pid != 0;
  return n;
}

static struct thread *thread_of(pid_t tid) {
  for (int i = 0; i < thread_count; i++) if (threads[i]->tid == tid) return threads[i];
  return NULL;
}

static struct process *process_of_inner(pid_t inner) {
  for (int i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (!p->pid) continue;
    if (!p->inner) p->inner = (pid_t)status_field(p->pid, "NStgid", 10, true);
    if (p->inner == inner) return p;
  }
  return NULL;
}

static struct thread *thread_of_inner(pid_t inner) {
  for (int i = 0; i < thread_count; i++) if ((pid_t)status_field(threads[i]->tid, "NSpid", 10, true) == inner) return threads[i];
  return NULL;
}

static struct process *add_process(pid_t pid, struct process *parent, int memory) {
  for (int i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (p->pid) continue;
    memset(p, 0, sizeof *p); p->pid = pid; p->number = (int)++counts.processes;
    p->parent = parent ? parent->number : 0; p->root = parent ? parent->root : p->number; p->memory = memory;
    p->chance = options.seed * 0x9e3779b97f4a7c15ULL + (uint64_t)p->number;
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (parent) {
      p->offset = parent->offset; p->drift = parent->drift; p->drift_from = parent->drift_from;
      p->has_signalfd = parent->has_signalfd;
    }
    return p;
  }
  fatal("more than %d processes at once: the program starts processes without end", MAX_PROCESSES);
}

static struct thread *add_thread(pid_t tid, struct process *p) {
  if (thread_count == MAX_THREADS) fatal("more than %d threads at once: the program starts threads without end", MAX_THREADS);
  struct thread *t = calloc(1, sizeof *t);
  if (!t) fatal("no memory for a thread");
  t->tid = tid; t->p = p; t->index = (int)++counts.threads; t->deadline = NEVER; p->threads++;
  threads[thread_count++] = t;
  return t;
}

static void drop_thread(struct thread *t) {
  let_go(t);
  for (int i = 0; i < thread_count; i++)
    if (threads[i] == t) {
      memmove(&threads[i], &threads[i + 1], sizeof *threads * (size_t)(thread_count - i - 1));
      thread_count--;
      break;
    }
  if (current == t) current = NULL;
  free(t->held); free(t);
}

static bool peek(pid_t t, uint64_t at, void *into, size_t n) {
  struct iovec l = {into, n}, r = {(void *)(uintptr_t)at, n};
  return process_vm_readv(t, &l, 1, &r, 1, 0) == (ssize_t)n;
}

static bool poke(pid_t t, uint64_t at, const void *from, size_t n) {
  struct iovec l = {(void *)(uintptr_t)from, n}, r = {(void *)(uintptr_t)at, n};
  return process_vm_writev(t, &l, 1, &r, 1, 0) == (ssize_t)n;
}

/* A descriptor of ours for a file of the thread's; -1 if it has none of that number. It must not outlive the wait: while
 * we hold it, closing the file has no effect. */
static int borrow(struct thread *t, int fd) {
  int mine = (int)syscall(SYS_pidfd_getfd, t->p->pidfd, fd, 0);
  if (mine < 0 && errno == ESRCH) { /* the main thread has ended, others live */
    int thread = (int)syscall(SYS_pidfd_open, t->tid, O_EXCL /* PIDFD_THREAD */);
    mine = (int)syscall(SYS_pidfd_getfd, thread, fd, 0); close(thread);
  }
  return mine;
}

/* Whether a file is ready; not by poll alone, which says nothing when the beat of the watchdog comes in between. */
static bool ready_now(int fd, short events) {
  struct pollfd p = {fd, events, 0};
  int n;
  while ((n = poll(&p, 1, 0)) < 0 && errno == EINTR) {}
  return n != 0;
}

/* Whether a file of the world is our own output, which somebody outside reads. */
static bool is_outside(int mine) {
  struct stat file, ours;
  for (int fd = 0; fd < 3 && !fstat(mine, &file); fd++)
    if (!fstat(fd, &ours) && file.st_dev == ours.st_dev && file.st_ino == ours.st_ino) return true;
  return false;
}

static void hold(struct thread *t, int fd, uint32_t events) {
  struct epoll_event e = {.events = events, .data.ptr = t};
  if (t->helds == t->room) {
    t->room = t->room ? 2 * t->room : 4; t->held = realloc(t->held, sizeof *t->held * (size_t)t->room);
    if (!t->held) fatal("no memory for descriptors");
  }
  t->held[t->helds++] = fd;
  held_total++;
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

static void let_go(struct thread *t) {
  for (int i = 0; i < t->helds; i++) { epoll_ctl(poller, EPOLL_CTL_DEL, t->held[i], NULL); close(t->held[i]); }
  held_total -= t->helds; t->helds = 0; t->hot = 0;
}

static size_t read_file(const char *path, char *into, size_t n) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t k = fd < 0 ? 0 : read(fd, into, n - 1);
  if (fd >= 0) close(fd);
  into[k > 0 ? k : 0] = 0;
  return k > 0 ? (size_t)k : 0;
}

/* The letter of a thread's state: R runs, S sleeps, D waits for a disk, t stands at a stop, Z and X have ended. */
static char letter_of(pid_t tid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", tid);
  read_file(path, text, sizeof text);
  char *end = strrchr(text, ')');
  return end && end[1] ? end[2] : 'X';
}

/* The processor time of a thread in milliseconds: on a crowded machine, real time says little. */
static long used_by(pid_t tid) {
  char path[64], text[512];
  unsigned long user = 0, system = 0;
  snprintf(path, sizeof path, "/proc/%d/stat", tid);
  read_file(path, text, sizeof text);
  char *end = strrchr(text, ')');
  if (end) sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  return (long)((user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
}

/* Whether a thread waits in the kernel until its output is read. */
static bool waits_outside(struct thread *t) {
  char path[64], text[128];
  long nr = -1;
  unsigned fd = 0;
  snprintf(path, sizeof path, "/proc/%d/syscall", t->tid);
  read_file(path, text, sizeof text);
  if (sscanf(text, "%ld %x", &nr, &fd) != 2 || (nr != SYS_write && nr != SYS_writev && nr != SYS_sendto && nr != SYS_sendmsg)) return false;
  int mine = borrow(t, (int)fd);
  bool outside = mine >= 0 && is_outside(mine);
  if (mine >= 0) close(mine);
  return outside;
}

static uint64_t status_field(pid_t tid, const char *name, int base, bool last) {
  char path[64], text[4096], want[40];
  snprintf(path, sizeof path, "/proc/%d/status", tid);
  snprintf(want, sizeof want, "\n%s:", name);
  read_file(path, text, sizeof text);
  char *at = strstr(text, want);
  if (!at) return 0;
  at += strlen(want);
  if (last) {
    char *end = strchr(at, '\n');
    if (end) *end = 0;
    char *tab = strrchr(at, '\t');
    if (tab) at = tab + 1;
  }
  return strtoull(at, NULL, base);
}

static void name_of(struct thread *t) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/comm", t->tid);
  read_file(path, t->name, sizeof t->name);
  t->name[strcspn(t->name, "\n")] = 0;
}

static void command_of(struct thread *t, char *into, size_t n) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/cmdline", t->tid);
  size_t k = read_file(path, into, n);
  for (size_t i = 0; i + 1 < k; i++) if (!into[i]) into[i] = ' ';
}

/* splitmix64 */
static uint64_t chance(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL; z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

static uint64_t shuffling, tape[1 << 16];
static size_t tape_end, tape_at;

static void extend_tape(const char *choice) {
  if (tape_end < sizeof tape / sizeof *tape) tape[tape_end++] = strtoull(choice, NULL, 10);
}

/* Who of several goes next, or is woken, in the order in which they came: the seed says it, or the tape, or the first. */
static uint64_t choice_of(uint64_t n) {
  if (n < 2) return 0;
  counts.choices++;
  return (options.shuffle ? chance(&shuffling) : tape_at < tape_end ? tape[tape_at++] : 0) % n;
}

static void fill(struct process *p, struct thread *t, uint64_t at, size_t n) {
  uint64_t block[64];
  while (n) {
    size_t k = n < sizeof block ? n : sizeof block;
    for (size_t i = 0; i < (k + 7) / 8; i++) block[i] = chance(&p->chance);
    if (!poke(t->tid, at, block, k)) return;
    at += k; n -= k;
  }
}
