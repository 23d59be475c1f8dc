/* What each traced call does: it is answered, runs as it is, or waits here at our hands until it can go on. */

#define ARG(i) regs_arg(&t->regs, i)
#define HELD_BACK (SECOND / 10)
enum { POLLABLE = 0x27c7 /* all that can be waited for; errors always are */, NATIVE_LIMIT = 4096 }; /* a write of less is not stopped: it waits so rarely that the watchdog is enough */

/* Gives a call its result, without the kernel. */
static void answer(struct thread *t, int64_t value) {
  regs_nr_set(t->tid, &t->regs, -1);
  regs_result_set(&t->regs, value);
  regs_set(t->tid, &t->regs);
}

static enum verdict told(struct thread *t, int64_t value) { answer(t, value); return GO; }

static void park(struct thread *t, enum kind kind, int64_t deadline, int64_t at_deadline) {
  if (t->kept && deadline != NEVER) deadline = t->deadline;
  t->kept = t->held_back = false; t->parked_at = page->mono; t->serial = ++parks; t->state = PARKED; t->kind = kind; t->deadline = deadline; t->at_deadline = at_deadline;
  t->entry = t->regs; t->since = 0; t->again = t->probe = false; t->hot = 0; page->reads = 0; page->step = 100;
  t->housekeeping = deadline != NEVER && is_housekeeping(t);
}

static int64_t nanoseconds(struct thread *t, uint64_t at, int micro) {
  struct timespec s = {0, 0};
  peek(t->tid, at, &s, sizeof s);
  if (s.tv_sec < 0 || s.tv_nsec < 0) return 0;
  if (s.tv_sec > 4000000000LL) return 4000000000LL * SECOND;
  return s.tv_sec * SECOND + (micro ? s.tv_nsec * 1000 : s.tv_nsec);
}

/* The moment at which a wait of so many nanoseconds ends, NEVER for one without a limit. */
static int64_t within(struct thread *t, bool limited, int64_t ns) { return limited ? clock_deadline(t->p, CLOCK_MONOTONIC, ns, false) : NEVER; }
static bool is_over(int64_t deadline) { return deadline != NEVER && deadline <= page->mono; }

static void poke_timespec(struct thread *t, uint64_t at, int64_t ns, int micro) {
  int64_t s[2] = {ns / SECOND, ns % SECOND / (micro ? 1000 : 1)};
  if (at) poke(t->tid, at, s, sizeof s);
}

static enum verdict watch(struct thread *t, enum after after) { t->entry = t->regs; t->after = after; return WATCH; }

static enum verdict watch_with(struct thread *t, enum after after, int arg, uint64_t value) {
  watch(t, after);
  regs_arg_set(&t->regs, arg, value); regs_set(t->tid, &t->regs);
  return WATCH;
}

/* ---- descriptors ---- */

/* Packets between our own processes wait in the queue of this processor; one of ours behind them returns when they have
 * all arrived. It works because everything runs on one processor. */
static void flush_loopback(void) {
  static int fd = -1;
  static bool broken;
  char byte = 0;
  if (!uses_inet || broken) return;
  if (fd < 0) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (void *)&a, n) || getsockname(fd, (void *)&a, &n) || connect(fd, (void *)&a, n)) {
      broken = true;
      return;
    }
  }
  if (send(fd, &byte, 1, 0) == 1)
    while (recv(fd, &byte, 1, 0) < 0 && errno == EINTR) {}
}


static bool is_random(const struct stat *s) { return S_ISCHR(s->st_mode) && major(s->st_rdev) == 1 && (minor(s->st_rdev) == 8 || minor(s->st_rdev) == 9); }

/* What Node and libuv call the uptime. The file has the same number in every /proc. */
static bool is_uptime(const struct stat *s) {
  static struct stat own;
  if (!own.st_ino) stat("/proc/uptime", &own);
  return S_ISREG(s->st_mode) && !major(s->st_dev) && !s->st_size && s->st_ino == own.st_ino;
}

static int64_t read_uptime(struct thread *t, int mine) {
  char text[64];
  int64_t now = clock_read(t->p, CLOCK_BOOTTIME) / (SECOND / 100), at = lseek(mine, 0, SEEK_CUR), n = (int64_t)ARG(2);
  int64_t left = snprintf(text, sizeof text, "%ld.%02ld 0.00\n", (long)(now / 100), (long)(now % 100)) - at;
  if (n > left) n = left < 0 ? 0 : left;
  poke(t->tid, ARG(1), text + at, (size_t)n); lseek(mine, n, SEEK_CUR);
  return n;
}

/* A signalfd is ready by the signals of whoever asks, so we must not ask in the thread's place, nor through its epoll. */
static bool is_signalfd(int fd) {
  char path[64], name[64] = {0};
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return readlink(path, name, sizeof name - 1) > 0 && !strcmp(name, "anon_inode:[signalfd]");
}

static enum verdict wait_fd(struct thread *t, int fd, bool never_waits) {
  int64_t deadline = NEVER;
  int mine = borrow(t, fd);
  if (mine < 0) return GO;
  struct stat s;
  if (fstat(mine, &s)) goto go;
  if (is_uptime(&s) && regs_nr(&t->regs) == SYS_read) answer(t, read_uptime(t, mine));
  if (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode)) goto go;
  if (S_ISSOCK(s.st_mode)) flush_loopback(); /* how much there is to read must not depend on when packets arrive */
  if (regs_nr(&t->regs) == SYS_read && is_random(&s)) { fill(t->p, t, ARG(1), ARG(2)); answer(t, (int64_t)ARG(2)); goto go; }
  if (t->p->has_signalfd && is_signalfd(mine)) {
    t->set = ~0ULL;
    if (never_waits || signal_ends(t)) goto go;
  } else if (ready_now(mine, POLLIN)) goto go;
  if (never_waits || fcntl(mine, F_GETFL) & O_NONBLOCK) { clock_tick(1); goto go; }
  if (S_ISSOCK(s.st_mode)) {
    struct timeval limit = {0, 0};
    socklen_t n = sizeof limit;
    getsockopt(mine, SOL_SOCKET, SO_RCVTIMEO, &limit, &n);
    deadline = within(t, limit.tv_sec || limit.tv_usec, limit.tv_sec * SECOND + limit.tv_usec * 1000);
  }
  hold(t, mine, EPOLLIN);
  park(t, ON_FDS, deadline, -EAGAIN);
  return PARK;
go:
  close(mine);
  return GO;
}

static int set_waiting(struct thread *t, int fd, bool waits) {
  struct stat s;
  int mine = borrow(t, fd), flags = mine < 0 ? -1 : fcntl(mine, F_GETFL);
  bool fit = flags >= 0 && !is_outside(mine) && !fstat(mine, &s) && (S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode)) && !(flags & O_NONBLOCK) == !waits;
  if (fit) fcntl(mine, F_SETFL, waits ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
  if (mine >= 0 && (!fit || waits)) close(mine);
  return fit ? mine : -1;
}

/* A long write that may wait for a reader is made of writes that do not; between them it waits here. */
static enum verdict enter_write(struct thread *t) {
  if (!t->continues) { t->written = 0; t->buffer = ARG(1); t->size = ARG(2); }
  t->continues = false;
  int mine = set_waiting(t, (int)ARG(0), false);
  if (mine < 0) return GO;
  close(mine);
  return watch(t, AFTER_WRITE);
}

/* A signal ends a wait that stands after the kernel's answer, about to be asked again. */
static void break_off(struct thread *t) {
  regs_pc_set(&t->regs, regs_pc(&t->regs) + SYSCALL_BYTES);
  regs_result_set(&t->regs, t->continues && t->written ? t->written : -512 /* ERESTARTSYS: the kernel knows what follows */);
  if (t->continues) { regs_arg_set(&t->regs, 1, t->buffer); regs_arg_set(&t->regs, 2, t->size); }
  t->continues = t->kept = false; regs_set(t->tid, &t->regs);
}

static enum verdict leave_write(struct thread *t, int64_t result) {
  int fd = (int)regs_arg(&t->entry, 0);
  uint64_t left = regs_arg(&t->entry, 2);
  set_waiting(t, fd, true);
  if (result > 0) t->written += result;
  if (result == -EAGAIN || (result > 0 && (uint64_t)result < left)) {
    uint64_t done = result > 0 ? (uint64_t)result : 0;
    int mine = borrow(t, fd);
    regs_rewind(&t->regs, &t->entry); regs_arg_set(&t->regs, 1, regs_arg(&t->entry, 1) + done);
    regs_arg_set(&t->regs, 2, left - done); regs_set(t->tid, &t->regs);
    if (mine >= 0) hold(t, mine, EPOLLOUT);
    t->continues = true; /* the rest may be too short for the filter: order.c asks for a stop at its entry */
    park(t, ON_FDS, NEVER, 0);
    return PARK;
  }
  if (t->written) regs_result_set(&t->regs, t->written);
  regs_arg_set(&t->regs, 1, t->buffer); regs_arg_set(&t->regs, 2, t->size); regs_set(t->tid, &t->regs);
  return GO;
}

/* What TCP does by the machine's own clock: it waits to send a little more, and fits its windows to how long an answer
 * took. Then a reader would find other portions in each run. Accepted connections inherit this from the one that listens. */
static enum verdict tame_connection(struct thread *t) {
  static const int one = 1, room = 1 << 17;
  int mine = borrow(t, (int)ARG(0));
  struct sockaddr_in to = {0};
  if (mine < 0) return GO;
  /* To what stands for other hosts, and to the store, it goes from an address of its own, by which the driver knows whose call it is. */
  if (options.own_net && t->nr == SYS_connect && peek(t->tid, ARG(1), &to, sizeof to) && to.sin_family == AF_INET && (ntohl(to.sin_addr.s_addr) >> 16 == 127 * 256 + 77 || ntohs(to.sin_port) == options.store_port)) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(127U << 24 | 88U << 16 | (uint32_t)t->p->root)};
    setsockopt(mine, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    bind(mine, (void *)&from, sizeof from);
  }
  if (!setsockopt(mine, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)) {
    setsockopt(mine, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    setsockopt(mine, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(mine, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  }
  close(mine);
  return GO;
}

/* The members of an epoll, one by one; true if one is ready now. */
static bool hold_members(struct thread *t, int epfd, bool *by_signal) {
  char path[64], line[256];
  bool ready = false;
  snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", t->p->pid, epfd);
  FILE *f = fopen(path, "re");
  if (!f) return false;
  while (fgets(line, sizeof line, f)) {
    int fd;
    unsigned events;
    if (sscanf(line, "tfd: %d events: %x", &fd, &events) != 2) continue;
    int mine = borrow(t, fd);
    if (mine < 0) continue;
    if (is_signalfd(mine)) { close(mine); *by_signal = true; continue; }
    if (ready_now(mine, (short)events)) ready = true;
    hold(t, mine, events & POLLABLE);
  }
  fclose(f);
  return ready;
}

/* Lets the kernel say whether something is ready: the same call, with no time to wait. */
static void probe(struct thread *t) {
  static const int64_t none[2] = {0, 0};
  bool pointer = t->nr == SYS_epoll_pwait2 || t->nr == SYS_ppoll || t->nr == SYS_pselect6 || t->nr == SYS_select;
  int arg = t->nr == SYS_poll || t->nr == SYS_ppoll ? 2 : t->nr == SYS_pselect6 || t->nr == SYS_select ? 4 : 3;
  uint64_t scratch = regs_sp(&t->regs) - 1024;
  t->probed = t->p->signal_stamp; poke(t->tid, scratch, none, sizeof none);
  watch_with(t, AFTER_PROBE, arg, pointer ? scratch : 0);
}

static enum verdict wait_epoll(struct thread *t, int64_t deadline) {
  bool by_signal = false;
  flush_loopback();
  if (is_over(deadline) && !t->kept) { clock_tick(1); return GO; }
  int fd = (int)ARG(0), mine = t->p->has_signalfd ? -1 : borrow(t, fd);
  if (mine >= 0) hold(t, mine, EPOLLIN);
  else if (!t->p->has_signalfd) return GO;
  if (mine >= 0 ? ready_now(mine, POLLIN) : hold_members(t, fd, &by_signal)) { let_go(t); return GO; }
  park(t, ON_FDS, deadline, 0);
  t->probe = by_signal;
  return PARK;
}

static enum verdict wait_poll(struct thread *t, struct pollfd *set, int n, int64_t deadline) {
  bool ready = false, by_signal = false;
  flush_loopback();
  if (is_over(deadline) && !t->kept) { clock_tick(1); return GO; }
  for (int i = 0; i < n && !ready; i++) {
    int mine = set[i].fd < 0 ? -1 : borrow(t, set[i].fd);
    if (set[i].fd >= 0 && mine < 0) ready = true;
    if (mine < 0) continue;
    if (t->p->has_signalfd && is_signalfd(mine)) { by_signal = true; close(mine); continue; }
    ready = ready_now(mine, set[i].events); hold(t, mine, (uint32_t)set[i].events & POLLABLE);
  }
  if (ready) { let_go(t); return GO; }
  park(t, ON_FDS, deadline, 0);
  t->probe = by_signal;
  return PARK;
}

static enum verdict enter_poll(struct thread *t, int64_t deadline) {
  size_t n = (uint32_t)ARG(1);
  struct pollfd *set = n > 65536 ? NULL : calloc(n + 1, sizeof *set);
  enum verdict v = set && (!n || peek(t->tid, ARG(0), set, sizeof *set * n)) ? wait_poll(t, set, (int)n, deadline) : GO;
  free(set);
  return v;
}

static enum verdict enter_select(struct thread *t, int64_t deadline) {
  static const short wants[3] = {POLLIN, POLLOUT, POLLPRI};
  struct pollfd set[1024];
  uint8_t bits[3][128] = {{0}};
  int top = (int)ARG(0), n = 0;
  if (top < 0 || top > 1024) return GO;
  for (int k = 0; k < 3; k++) if (ARG(k + 1) && !peek(t->tid, ARG(k + 1), bits[k], (size_t)(top + 7) / 8)) return GO;
  for (int i = 0; i < top; i++) {
    set[n] = (struct pollfd){i, 0, 0};
    for (int k = 0; k < 3; k++) if (bits[k][i / 8] >> (i % 8) & 1) set[n].events |= wants[k];
    n += set[n].events != 0;
  }
  return wait_poll(t, set, n, deadline);
}

/* select says by its sets, not only by its result, that nothing was ready. */
static void empty_sets(struct thread *t) {
  uint8_t none[128] = {0};
  for (int k = 1; k <= 3; k++)
    if (regs_arg(&t->entry, k)) poke(t->tid, regs_arg(&t->entry, k), none, (size_t)(regs_arg(&t->entry, 0) + 63) / 64 * 8);
}

/* ---- futexes: waiters never wait in the kernel ---- */

static struct key futex_key(struct thread *t, uint64_t at, bool private) {
  struct key k = {at, 0, (uint64_t)t->p->memory};
  if (private) return k;
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/%d/maps", t->tid);
  FILE *f = fopen(path, "re");
  if (!f) return k;
  while (fgets(line, sizeof line, f)) {
    uint64_t from, to, offset, inode;
    unsigned dev_major, dev_minor;
    char mode[8];
    if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu", &from, &to, mode, &offset, &dev_major, &dev_minor, &inode) != 7) continue;
    if (at < from || at >= to) continue;
    if (mode[3] == 's') k = (struct key){at - from + offset, inode, (uint64_t)dev_major << 40 | (uint64_t)dev_minor << 32 | 0xffffffff};
    break;
  }
  fclose(f);
  return k;
}

/* Programs in which each thread waits for its own time alone, as in a sleep, by a futex. In others, a loop may wait for the
 * first of many timers. */
static bool sleeps_by_futex(struct process *p) {
  static const char *const names[] = {"ruby", "python"};
  char path[64], program[256] = {0};
  if (!p->program_known) {
    snprintf(path, sizeof path, "/proc/%d/exe", p->pid);
    ssize_t n = readlink(path, program, sizeof program - 1);
    const char *name = n > 0 && strrchr(program, '/') ? strrchr(program, '/') + 1 : "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) p->by_futex |= !strncmp(name, names[i], strlen(names[i]));
    p->program_known = true;
  }
  return p->by_futex;
}

/* The driver says when a sleep ends. */
static void hold_back(struct thread *t) {
  t->held_back = options.hold_sleeps && !t->housekeeping && t->deadline - page->mono >= HELD_BACK;
}

static bool same(struct key a, struct key b) { return a.where == b.where && a.file == b.file && a.offset == b.offset; }

static bool waits_for(struct thread *t, struct key key, uint32_t bits) {
  return t->state == PARKED && t->kind == ON_FUTEX && same(t->key, key) && t->bits & bits;
}

/* First come, first woken, as in the kernel; or another, as POSIX allows. */
static void futex_wake(struct key key, uint32_t bits, int most, int *woken) {
  for (; *woken < most; ++*woken) {
    uint64_t met = 0, after = 0;
    for (int i = 0; i < thread_count; i++) met += waits_for(threads[i], key, bits);
    if (!met) return;
    struct thread *first = NULL;
    for (uint64_t k = choice_of(met) + 1; k; k--, after = first->tried) {
      first = NULL;
      for (int i = 0; i < thread_count; i++)
        if (waits_for(threads[i], key, bits) && threads[i]->tried > after && (!first || threads[i]->tried < first->tried)) first = threads[i];
    }
    let_go(first); answer(first, 0);
    first->state = READY; first->since = ++ticket;
  }
}

static int futex_operate(struct thread *t, uint32_t code, uint64_t at, bool *compared) {
  int op = (int)(code >> 28) & 15, against = (int)(code >> 24) & 15, old;
  int arg = (int)(code << 8) >> 20, with = (int)(code << 20) >> 20;
  if (op & 8) arg = 1 << (arg & 31);
  if (!peek(t->tid, at, &old, 4)) return -EFAULT;
  int is = (op & 7) == 0 ? arg : (op & 7) == 1 ? old + arg : (op & 7) == 2 ? (old | arg) : (op & 7) == 3 ? (old & ~arg) : (old ^ arg);
  poke(t->tid, at, &is, 4);
  *compared = against == 0 ? old == with : against == 1 ? old != with : against == 2 ? old < with : against == 3 ? old <= with : against == 4 ? old > with : old >= with;
  return 0;
}

static enum verdict enter_futex(struct thread *t) {
  int op = (int)ARG(1) & FUTEX_CMD_MASK, woken = 0;
  bool private = ARG(1) & FUTEX_PRIVATE_FLAG, compared;
  uint32_t word = 0, bits = op == FUTEX_WAIT_BITSET || op == FUTEX_WAKE_BITSET ? (uint32_t)ARG(5) : ~0U;
  switch (op) {
  case FUTEX_WAIT:
  case FUTEX_WAIT_BITSET: {
    if (!peek(t->tid, ARG(0), &word, 4)) return GO;
    if (word != (uint32_t)ARG(2)) return told(t, -EAGAIN);
    int clock = ARG(1) & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    int64_t deadline = ARG(3) ? clock_deadline(t->p, clock, nanoseconds(t, ARG(3), 0), op == FUTEX_WAIT_BITSET) : NEVER;
    if (is_over(deadline) && !t->kept) { clock_tick(1); return told(t, -ETIMEDOUT); }
    t->key = futex_key(t, ARG(0), private); t->bits = bits;
    t->tried = ++ticket; /* first come, first woken */
    park(t, ON_FUTEX, deadline, -ETIMEDOUT);
    if (deadline != NEVER && sleeps_by_futex(t->p)) hold_back(t);
    return PARK;
  }
  case FUTEX_WAKE: case FUTEX_WAKE_BITSET:
    futex_wake(futex_key(t, ARG(0), private), bits, (int)ARG(2), &woken);
    return told(t, woken);
  case FUTEX_WAKE_OP: {
    int error = futex_operate(t, (uint32_t)ARG(5), ARG(4), &compared), more = 0;
    if (!error) {
      futex_wake(futex_key(t, ARG(0), private), ~0U, (int)ARG(2), &woken);
      if (compared) futex_wake(futex_key(t, ARG(4), private), ~0U, (int)ARG(3), &more);
    }
    return told(t, error ? error : woken + more);
  }
  case FUTEX_REQUEUE:
  case FUTEX_CMP_REQUEUE: {
    if (op == FUTEX_CMP_REQUEUE && (!peek(t->tid, ARG(0), &word, 4) || word != (uint32_t)ARG(5))) return told(t, -EAGAIN);
    struct key from = futex_key(t, ARG(0), private), to = futex_key(t, ARG(4), private);
    int moved = 0;
    futex_wake(from, ~0U, (int)ARG(2), &woken);
    for (int i = 0; i < thread_count && moved < (int)ARG(3); i++)
      if (threads[i]->state == PARKED && threads[i]->kind == ON_FUTEX && same(threads[i]->key, from)) threads[i]->key = to, moved++;
    return told(t, woken + moved);
  }
  default: return GO; /* priority inheritance stays with the kernel; the watchdog notices a wait */
  }
}

/* ---- signals ---- */

static uint64_t pending_signals(struct thread *t) {
  siginfo_t found[32];
  uint64_t set = 0;
  for (uint32_t shared = 0; shared < 2; shared++) {
    struct { uint64_t offset; uint32_t flags; int32_t count; } ask = {0, shared, 32};
    long n = ptrace(PTRACE_PEEKSIGINFO, t->tid, &ask, found);
    for (long i = 0; i < n; i++) set |= 1ULL << (found[i].si_signo - 1);
  }
  return set;
}

/* A tracer is told of signals that nobody handles; they end no wait, as if it were not there. */
static uint64_t ignored_signals(struct thread *t) {
  uint64_t usual = 1ULL << (SIGCHLD - 1) | 1ULL << (SIGCONT - 1) | 1ULL << (SIGURG - 1) | 1ULL << (SIGWINCH - 1);
  return status_field(t->tid, "SigIgn", 16, false) | (usual & ~status_field(t->tid, "SigCgt", 16, false));
}

/* The signals that end the wait of a thread, or that it will see later. The call then runs as it is, and the kernel does
 * what is right. */
static uint64_t signals_for(struct thread *t, bool later) {
  uint64_t pending = pending_signals(t), mask = 0, open;
  if (!pending) return 0;
  if (!t->mask_at || !peek(t->tid, t->mask_at, &mask, 8)) ptrace(PTRACE_GETSIGMASK, t->tid, 8, &mask);
  open = pending & ~mask;
  if (open) open &= ~ignored_signals(t);
  return open | (pending & (later ? mask : t->set));
}

static bool signal_ends(struct thread *t) { return signals_for(t, false) != 0; }

/* ---- timers ---- */

static void read_timer(struct timer *m, int64_t *value) {
  value[0] = m && m->every > 0 ? m->every : 0;
  value[1] = m && m->at != NEVER ? (m->at > page->mono ? m->at - page->mono : 1) : 0;
}

static void poke_itimer(struct thread *t, uint64_t at, const int64_t *value, int micro) {
  if (!at) return;
  poke_timespec(t, at, value[0], micro);
  poke_timespec(t, at + 16, value[1], micro);
}

static void set_timer(struct thread *t, struct timer *m, uint64_t from, int micro, bool absolute) {
  int64_t every = nanoseconds(t, from, micro), value = nanoseconds(t, from + 16, micro);
  m->every = every; m->count = 0; m->at = value ? clock_deadline(t->p, m->clock, value, absolute) : NEVER;
}

static struct timer *alarm_of(struct process *p) {
  struct timer *m = find_timer(p, TIMER_ITIMER, 0);
  if (!m) { m = new_timer(p, TIMER_ITIMER); m->signo = SIGALRM; m->clock = CLOCK_MONOTONIC; }
  return m;
}

static enum verdict enter_itimer(struct thread *t, long nr) {
  int64_t old[2], none[2] = {0, 0};
  bool real = ARG(0) == ITIMER_REAL;
  read_timer(real ? find_timer(t->p, TIMER_ITIMER, 0) : NULL, old);
  if (nr == SYS_setitimer && real && ARG(1)) set_timer(t, alarm_of(t->p), ARG(1), 1, false);
  poke_itimer(t, nr == SYS_setitimer ? ARG(2) : ARG(1), real ? old : none, 1);
  answer(t, 0); /* the timers of processor time never end: so little of it passes */
  return GO;
}

static enum verdict enter_timer(struct thread *t, long nr) {
  static int ids;
  int64_t old[2];
  if (nr == SYS_timer_create) {
    struct { uint64_t value; int signo, notify, tid; } event = {0, SIGALRM, SIGEV_SIGNAL, 0};
    struct timer *m = new_timer(t->p, TIMER_POSIX);
    m->id = ids++; event.value = (uint64_t)m->id;
    if (ARG(1)) peek(t->tid, ARG(1), &event, sizeof event);
    m->clock = (int)ARG(0); m->signo = event.notify == SIGEV_NONE ? 0 : event.signo; m->value = event.value;
    if (event.notify & SIGEV_THREAD_ID) { struct thread *to = thread_of_inner(event.tid); m->tid = to ? to->tid : 0; }
    poke(t->tid, ARG(2), &m->id, 4);
    return told(t, 0);
  }
  struct timer *m = find_timer(t->p, TIMER_POSIX, (int)ARG(0));
  if (!m) return told(t, -EINVAL);
  read_timer(m, old);
  if (nr == SYS_timer_settime) {
    set_timer(t, m, ARG(2), 0, ARG(1) & TIMER_ABSTIME);
    poke_itimer(t, ARG(3), old, 0);
  } else if (nr == SYS_timer_gettime) poke_itimer(t, ARG(1), old, 0);
  else if (nr == SYS_timer_delete) m->what = TIMER_FREE;
  return told(t, 0);
}

static enum verdict enter_timerfd(struct thread *t, long nr) {
  int mine = borrow(t, (int)ARG(0));
  struct timer *m = mine < 0 ? NULL : find_timerfd(mine);
  int64_t old[2];
  if (mine >= 0) close(mine);
  if (!m) return GO;
  read_timer(m, old);
  if (nr == SYS_timerfd_settime) {
    struct itimerspec none;
    memset(&none, 0, sizeof none);
    timerfd_settime(m->fd, 0, &none, NULL); /* what nobody has read is gone */
    set_timer(t, m, ARG(2), 0, ARG(1) & TFD_TIMER_ABSTIME);
    m->p = t->p;
    poke_itimer(t, ARG(3), old, 0);
  } else poke_itimer(t, ARG(1), old, 0);
  return told(t, 0);
}

/* ---- entry ---- */

static enum verdict enter_clock(struct thread *t, long nr) {
  int32_t zone[2] = {0, 0};
  int64_t result = 0, hundredths = SECOND / 100;
  counts.clock_stops++;
  clock_tick(page->reads % 1024 != 0);
  if (nr == SYS_clock_gettime) poke_timespec(t, ARG(1), clock_read(t->p, (int)ARG(0)), 0);
  else if (nr == SYS_gettimeofday) {
    poke_timespec(t, ARG(0), clock_read(t->p, CLOCK_REALTIME), 1);
    if (ARG(1)) poke(t->tid, ARG(1), zone, 8);
  } else if (nr == SYS_time) {
    result = clock_read(t->p, CLOCK_REALTIME) / SECOND;
    if (ARG(0)) poke(t->tid, ARG(0), &result, 8);
  } else {
    struct tms spent = {.tms_utime = clock_read(t->p, CLOCK_PROCESS_CPUTIME_ID) / hundredths};
    if (ARG(0)) poke(t->tid, ARG(0), &spent, sizeof spent);
    result = clock_read(t->p, CLOCK_MONOTONIC) / hundredths;
  }
  answer(t, result);
  return page->reads % 1024 < 2 ? HAND_OVER : GO;
}

static enum verdict enter_usage(struct thread *t) {
  int64_t cpu = clock_read(t->p, CLOCK_PROCESS_CPUTIME_ID);
  struct rusage u = {.ru_utime = {cpu / SECOND, cpu % SECOND / 1000}, .ru_maxrss = 65536};
  poke(t->tid, ARG(1), &u, sizeof u);
  return told(t, 0);
}

static enum verdict enter_sysinfo(struct thread *t) {
  struct sysinfo s, mine;
  sysinfo(&mine);
  memset(&s, 0, sizeof s); s.uptime = page->mono / SECOND; s.totalram = mine.totalram;
  s.freeram = mine.totalram / 2; s.mem_unit = mine.mem_unit; s.procs = 1; poke(t->tid, ARG(0), &s, sizeof s);
  return told(t, 0);
}

static enum verdict enter_sleep(struct thread *t, int clock, uint64_t at, bool absolute) {
  int64_t limit = nanoseconds(t, at, 0), deadline = clock_deadline(t->p, clock, limit, absolute);
  if (deadline == NEVER) return told(t, -EOPNOTSUPP);
  if (deadline <= page->mono && !t->kept) { clock_tick(64); answer(t, 0); return HAND_OVER; }
  park(t, ON_SLEEP, deadline, 0);
  hold_back(t);
  return PARK;
}

static bool is_ended_by_signal(struct thread *t) { return t->p->signals && signal_ends(t); }

static enum verdict enter_signal_wait(struct thread *t, uint64_t mask_at, uint64_t set_at, int64_t deadline) {
  if (set_at) peek(t->tid, set_at, &t->set, 8);
  t->mask_at = mask_at;
  if (is_over(deadline) || is_ended_by_signal(t)) return GO;
  park(t, ON_SIGNAL, deadline, -EAGAIN);
  return PARK;
}

static enum verdict enter_limited(struct thread *t, long nr) {
  int arg = nr == SYS_ppoll ? 2 : nr == SYS_epoll_pwait2 ? 3 : 4;
  int64_t deadline = within(t, ARG(arg) != 0, ARG(arg) ? nanoseconds(t, ARG(arg), 0) : 0);
  t->mask_at = ARG(nr == SYS_ppoll ? 3 : nr == SYS_epoll_pwait2 ? 4 : 5);
  if (t->mask_at && nr == SYS_pselect6) peek(t->tid, t->mask_at, &t->mask_at, 8); /* there it is a pointer to a pointer */
  if (t->mask_at && is_ended_by_signal(t)) return GO;
  return nr == SYS_ppoll ? enter_poll(t, deadline) : nr == SYS_epoll_pwait2 ? wait_epoll(t, deadline) : enter_select(t, deadline);
}

/* A wait that a signal without a handler interrupted goes on, until the same moment. */
static enum verdict enter_restart(struct thread *t) {
  if (t->kind == ON_NOTHING) return GO;
  long nr = regs_nr(&t->entry);
  t->regs = t->entry;
  regs_nr_set(t->tid, &t->regs, nr);
  regs_set(t->tid, &t->regs); t->nr = nr; t->kept = true;
  return dispatch(t, nr);
}

/* Only what the kernel writes down says whether it found anybody: whoever wants no answer gets one below its stack. */
static enum verdict enter_waitid(struct thread *t) {
  if (ARG(3) & WNOHANG) return GO;
  watch(t, AFTER_WAIT);
  if (!ARG(2)) regs_arg_set(&t->regs, 2, regs_sp(&t->regs) - 512);
  regs_arg_set(&t->regs, 3, ARG(3) | WNOHANG); regs_set(t->tid, &t->regs);
  return WATCH;
}

static enum verdict enter_call(struct thread *t) {
  t->nr = regs_nr(&t->regs); t->set = t->mask_at = 0;
  enum verdict v = dispatch(t, t->nr);
  if (v != PARK) t->kept = false;
  return v;
}

static enum verdict dispatch(struct thread *t, long nr) {
  switch (nr) {
  case SYS_clock_gettime: case SYS_gettimeofday: case SYS_times: case SYS_time: return enter_clock(t, nr);
  case SYS_getrusage: return enter_usage(t);
  case SYS_sysinfo: return enter_sysinfo(t);
  case SYS_getrandom: fill(t->p, t, ARG(0), ARG(1)); return told(t, (int64_t)ARG(1));
  case SYS_sched_yield:
    clock_tick(256);
    answer(t, 0);
    return HAND_OVER;
  case SYS_nanosleep: return enter_sleep(t, CLOCK_MONOTONIC, ARG(0), false);
  case SYS_clock_nanosleep: return enter_sleep(t, (int)ARG(0), ARG(2), ARG(1) & TIMER_ABSTIME);
  case SYS_futex: return enter_futex(t);
  case SYS_read: case SYS_readv: case SYS_accept:
  case SYS_accept4: return wait_fd(t, (int)ARG(0), false);
  case SYS_recvfrom: return wait_fd(t, (int)ARG(0), ARG(3) & MSG_DONTWAIT);
  case SYS_recvmsg: return wait_fd(t, (int)ARG(0), ARG(2) & MSG_DONTWAIT);
  case SYS_recvmmsg: return wait_fd(t, (int)ARG(0), ARG(3) & MSG_DONTWAIT);
  case SYS_write: return enter_write(t);
  case SYS_sendto: return ARG(3) & MSG_DONTWAIT ? GO : enter_write(t);
  case SYS_poll: return enter_poll(t, within(t, (int)ARG(2) >= 0, (int)ARG(2) * 1000000LL));
  case SYS_select: return enter_select(t, within(t, ARG(4) != 0, ARG(4) ? nanoseconds(t, ARG(4), 1) : 0));
  case SYS_epoll_wait: return wait_epoll(t, within(t, (int)ARG(3) >= 0, (int)ARG(3) * 1000000LL));
  case SYS_pause: return enter_signal_wait(t, 0, 0, NEVER);
  case SYS_alarm: {
    int64_t old[2];
    struct timer *m = alarm_of(t->p);
    read_timer(m, old);
    m->every = 0; m->at = within(t, ARG(0) != 0, (int64_t)(uint32_t)ARG(0) * SECOND);
    return told(t, (old[1] + SECOND - 1) / SECOND);
  }
  case SYS_epoll_pwait:
    t->mask_at = ARG(4);
    if (t->mask_at && is_ended_by_signal(t)) return GO;
    return wait_epoll(t, within(t, (int)ARG(3) >= 0, (int)ARG(3) * 1000000LL));
  case SYS_ppoll: case SYS_pselect6:
  case SYS_epoll_pwait2: return enter_limited(t, nr);
  case SYS_rt_sigsuspend: return enter_signal_wait(t, ARG(0), 0, NEVER);
  case SYS_rt_sigtimedwait: return enter_signal_wait(t, 0, ARG(0), within(t, ARG(2) != 0, ARG(2) ? nanoseconds(t, ARG(2), 0) : 0));
  case SYS_restart_syscall: return enter_restart(t);
  case SYS_setitimer:
  case SYS_getitimer: return enter_itimer(t, nr);
  case SYS_timer_create: case SYS_timer_settime: case SYS_timer_gettime: case SYS_timer_getoverrun:
  case SYS_timer_delete: return enter_timer(t, nr);
  case SYS_timerfd_settime:
  case SYS_timerfd_gettime: return enter_timerfd(t, nr);
  case SYS_timerfd_create: return watch(t, AFTER_TIMERFD);
  case SYS_signalfd4: case SYS_signalfd: t->p->has_signalfd = true; return GO;
  case SYS_wait4: return ARG(2) & WNOHANG ? GO : watch_with(t, AFTER_WAIT, 2, ARG(2) | WNOHANG);
  case SYS_waitid: return enter_waitid(t);
  case SYS_flock: return ARG(1) & LOCK_NB ? GO : watch_with(t, AFTER_LOCK, 1, ARG(1) | LOCK_NB);
  case SYS_fcntl: return watch_with(t, AFTER_LOCK, 1, ARG(1) - 1); /* from the kind that waits to the one that does not */
  case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo:
  case SYS_pidfd_send_signal: return watch(t, AFTER_KILL);
  case SYS_socket:
    if (ARG(0) == AF_INET || ARG(0) == AF_INET6) uses_inet = true;
    return GO;
  case SYS_connect:
  case SYS_listen: return tame_connection(t);
  case SYS_set_tid_address: t->clear_tid = ARG(0); return GO;
  case SYS_exit: case SYS_exit_group: case SYS_execve:
  case SYS_execveat: t->p->any = true; return GO;
  default: return GO;
  }
}

/* ---- return of a watched call ---- */

static enum verdict try_again(struct thread *t, enum kind kind) {
  regs_rewind(&t->regs, &t->entry); regs_set(t->tid, &t->regs);
  park(t, kind, NEVER, 0);
  t->tried = counts.turns;
  return PARK;
}

static bool nobody_yet(struct thread *t) {
  int info[1] = {0};
  if (regs_result(&t->regs)) return false;
  if (t->nr == SYS_wait4) return true;
  peek(t->tid, regs_arg(&t->regs, 2), info, sizeof info);
  return !info[0]; /* the signal: none, if nobody has ended */
}

static void after_kill(struct thread *t) {
  int who = (int)regs_arg(&t->entry, 0), signo = (int)regs_arg(&t->entry, t->nr == SYS_tgkill || t->nr == SYS_rt_tgsigqueueinfo ? 2 : 1);
  bool one = who > 0 && t->nr != SYS_pidfd_send_signal;
  struct process *to = one ? process_of_inner(who) : NULL;
  struct thread *thread = one && !to ? thread_of_inner(who) : NULL;
  if (thread) to = thread->p;
  for (int i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (!p->pid || (one && p != to)) continue;
    p->signals = true; p->signal_stamp++;
    if (signo == SIGKILL && !one && p != t->p) { /* a group: who has died? */
      for (int k = 0; k < 100 && letter_of(p->pid) == 't'; k++) sched_yield();
      if (letter_of(p->pid) == 't') continue;
    }
    if (signo == SIGKILL && p != t->p) finish(p);
    if (signo == SIGCONT)
      for (int k = 0; k < thread_count; k++)
        if (threads[k]->p == p && threads[k]->state == STOPPED) threads[k]->continued = continued = true;
  }
}

static void after_timerfd(struct thread *t) {
  int fd = (int)regs_result(&t->regs), mine = fd < 0 ? -1 : borrow(t, fd);
  if (mine < 0) return;
  struct timer *m = new_timer(t->p, TIMER_FD);
  m->fd = mine; m->clock = (int)regs_arg(&t->entry, 0);
}

static enum verdict leave_call(struct thread *t) {
  enum after after = t->after;
  int64_t result = regs_result(&t->regs);
  t->after = AFTER_NOTHING;
  switch (after) {
  case AFTER_WAIT:
    if (nobody_yet(t)) return try_again(t, ON_CHILD);
    break;
  case AFTER_WRITE: return leave_write(t, result);
  case AFTER_LOCK:
    if (result == -EAGAIN || result == -EACCES) return try_again(t, ON_LOCK);
    break;
  case AFTER_PROBE:
    if (result) break;
    regs_rewind(&t->regs, &t->entry); regs_set(t->tid, &t->regs); t->kept = true;
    return GO;
  case AFTER_SLEEP: {
    uint64_t left_at = t->nr == SYS_nanosleep ? regs_arg(&t->entry, 1) : regs_arg(&t->entry, 1) & TIMER_ABSTIME ? 0 : regs_arg(&t->entry, 3);
    if (result) poke_timespec(t, left_at, t->deadline > page->mono ? t->deadline - page->mono : 0, 0);
    return GO;
  }
  case AFTER_KILL: after_kill(t); return GO;
  case AFTER_TIMERFD: after_timerfd(t); return GO;
  default: return GO;
  }
  for (int i = 0; i < 6; i++) regs_arg_set(&t->regs, i, regs_arg(&t->entry, i));
  regs_set(t->tid, &t->regs);
  return GO;
}

/* ---- the filter ---- */

static const int traced[] = {
  SYS_clock_gettime, SYS_gettimeofday, SYS_times, SYS_getrusage, SYS_sysinfo, SYS_getrandom, SYS_sched_yield, SYS_nanosleep,
  SYS_clock_nanosleep, SYS_futex, SYS_read, SYS_readv, SYS_accept, SYS_accept4, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg,
  SYS_epoll_pwait, SYS_ppoll, SYS_pselect6, SYS_epoll_pwait2, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_restart_syscall,
  SYS_setitimer, SYS_getitimer, SYS_timer_create, SYS_timer_settime, SYS_timer_gettime, SYS_timer_getoverrun, SYS_timer_delete,
  SYS_timerfd_settime, SYS_timerfd_gettime, SYS_timerfd_create, SYS_signalfd4, SYS_wait4, SYS_waitid, SYS_flock, SYS_kill,
  SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_socket, SYS_connect, SYS_listen,
  SYS_set_tid_address, SYS_socketpair, SYS_epoll_create1, SYS_eventfd2, SYS_inotify_init1, SYS_clone, SYS_clone3,
  SYS_exit, SYS_exit_group, SYS_execve, SYS_execveat,
  SYS_time, SYS_poll, SYS_select, SYS_epoll_wait, SYS_pause, SYS_alarm, SYS_signalfd,
};
/* Answered by the kernel at once. What asks for these falls back, or is told that it worked. */
static const struct { int nr, error; } refused[] = {
  {SYS_io_uring_setup, ENOSYS}, {449 /* futex_waitv */, ENOSYS}, {454 /* futex_wake */, ENOSYS}, {455 /* futex_wait */, ENOSYS},
  {456 /* futex_requeue */, ENOSYS}, {SYS_sched_setaffinity, 0}, {SYS_clock_settime, EPERM}, {SYS_settimeofday, EPERM},
  {SYS_adjtimex, EPERM}, {SYS_clock_adjtime, EPERM},
};

static int filter_install(void) {
  enum { N = sizeof traced / sizeof *traced, M = sizeof refused / sizeof *refused };
  static struct sock_filter f[2 * N + 2 * M + 64];
  int j = 0;
#define LOAD(field) f[j++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(op, value, skip) f[j++] = (struct sock_filter)BPF_JUMP(BPF_JMP | op | BPF_K, (uint32_t)(value), 0, skip)
#define RETURN(what) f[j++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (uint32_t)(what))
  LOAD(arch);
  f[j++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE_AUDIT, 1, 0);
  RETURN(SECCOMP_RET_ERRNO | ENOSYS); /* calls of 32-bit programs */
  LOAD(nr);
  UNLESS(BPF_JGE, 0x40000000, 1);
  RETURN(SECCOMP_RET_ERRNO | ENOSYS);
  for (int i = 0; i < N; i++) { UNLESS(BPF_JEQ, traced[i], 1); RETURN(SECCOMP_RET_TRACE); }
  for (int i = 0; i < M; i++) { UNLESS(BPF_JEQ, refused[i].nr, 1); RETURN(SECCOMP_RET_ERRNO | refused[i].error); }
  /* Large writes may wait for a reader. */
  static const int large[] = {SYS_write, SYS_sendto};
  for (int i = 0; i < 2; i++) {
    UNLESS(BPF_JEQ, large[i], 4); LOAD(args[2]);
    UNLESS(BPF_JGE, NATIVE_LIMIT, 1); RETURN(SECCOMP_RET_TRACE); RETURN(SECCOMP_RET_ALLOW);
  }
  /* Locks that wait: F_SETLKW, F_OFD_SETLKW. */
  UNLESS(BPF_JEQ, SYS_fcntl, 4); LOAD(args[1]);
  f[j++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETLKW, 1, 0);
  UNLESS(BPF_JEQ, 38, 1); RETURN(SECCOMP_RET_TRACE); RETURN(SECCOMP_RET_ALLOW);
  struct sock_fprog program = {(unsigned short)j, f};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
