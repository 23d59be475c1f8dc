/* Stops of threads: calls, signals, births, deaths, new programs; and the watch over a thread that makes no stop. */

static long calls_in_turn;
static uint64_t looked_at;
static int asleep_looks, busy_looks;
static long busy_since;
static pid_t early[64];
static int earlies;

static bool wait_for(pid_t tid, int *status) {
  while (waitpid(tid, status, __WALL) < 0) if (errno != EINTR) return false;
  return true;
}

static void resume(struct thread *t, int how) {
  int sig = t->sig;
  t->sig = 0; t->state = RUNNING; t->since = 0; current = t;
  if (ptrace(how, t->tid, 0, sig) && errno == ESRCH) t->p->any = true; /* it has been killed: its end comes next */
}

static void set_ready(struct thread *t) {
  t->state = READY; t->since = ++ticket;
  if (current == t) current = NULL;
}

static void trace(struct thread *t, long what, int64_t value) {
  uint64_t parts[3] = {(uint64_t)t->index, (uint64_t)what, (uint64_t)value};
  for (int i = 0; i < 3; i++) counts.hash = (counts.hash ^ parts[i]) * 0x100000001b3ULL;
  if (!log_file) return;
  name_of(t);
  fprintf(log_file, "%lld.%09lld %d %s %ld %lld\n", (long long)(page->mono / SECOND), (long long)(page->mono % SECOND), t->index, t->name, what, (long long)value);
}

/* ---- births and deaths ---- */

static struct process *living(int number) {
  for (int i = 0; i < MAX_PROCESSES; i++) if (processes[i].pid && processes[i].number == number) return &processes[i];
  return NULL;
}

static void release_parent(struct process *child) {
  for (int i = 0; i < thread_count; i++)
    if (threads[i]->state == BORN_WAIT && threads[i]->set == (uint64_t)child->number) set_ready(threads[i]);
}

static void tell_parents(struct process *child) {
  struct process *parent = living(child->parent);
  if (parent) { parent->signals = true; parent->signal_stamp++; }
  for (int i = 0; i < thread_count; i++) if (threads[i]->kind == ON_CHILD) threads[i]->again = true;
}

/* The kernel wakes who waits for the end of a thread or for a lock that it held; nobody waits in the kernel, so we do. */
static void wake_heirs(struct thread *t) {
  int woken = 0;
  if (t->clear_tid) { struct key k = {t->clear_tid, 0, (uint64_t)t->p->memory}; futex_wake(k, ~0U, 1, &woken); }
  for (int i = 0; i < thread_count; i++) {
    uint32_t word = 0;
    struct thread *w = threads[i];
    if (w == t || w->state != PARKED || w->kind != ON_FUTEX || !peek(w->tid, regs_arg(&w->entry, 0), &word, 4)) continue;
    if (word & 0x40000000 /* FUTEX_OWNER_DIED */) {
      answer(w, 0);
      set_ready(w);
    }
  }
}

static void bury(struct thread *t, int status) {
  struct process *p = t->p;
  trace(t, -1, status);
  wake_heirs(t);
  drop_thread(t);
  if (--p->threads > 0) return;
  p->exiting = true;
  release_parent(p);
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  news |= p->root == p->number;
  tell_exit(p, code);
  if (p->pid == first_process && options.control_in < 0) { world_over = 1; world_code = code; }
  forget_timers(p);
  if (p->pidfd >= 0) close(p->pidfd);
  struct process gone = *p;
  p->pid = 0;
  for (int i = 0; i < MAX_PROCESSES; i++) /* orphans go to the first process of the namespace, which says nothing */
    if (processes[i].pid && processes[i].parent == gone.number) processes[i].parent = 0;
  tell_parents(&gone);
}

/* Waits for the end of every thread of a process that is dying. */
static void finish(struct process *p) {
  pid_t pid = p->pid;
  p->exiting = true;
  while (p->pid == pid && p->threads > 0) {
    struct thread *t = NULL;
    for (int i = thread_count - 1; i >= 0; i--) if (threads[i]->p == p && (!t || threads[i]->tid != pid)) t = threads[i];
    if (!t) return;
    int status;
    if (!wait_for(t->tid, &status)) bury(t, 0);
    else if (WIFEXITED(status) || WIFSIGNALED(status)) bury(t, status);
    else ptrace(PTRACE_CONT, t->tid, 0, 0);
  }
}

/* Waits for the first stop of a new thread, if it has not been met already. */
static void await_newborn(pid_t tid) {
  int status;
  for (int i = 0; i < earlies; i++)
    if (early[i] == tid) { early[i] = early[--earlies]; return; }
  wait_for(tid, &status);
}

static void born(struct thread *t, int event) {
  unsigned long message = 0;
  uint64_t flags = 0, child_tid = 0;
  ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &message);
  pid_t tid = (pid_t)message;
  regs_get(t->tid, &t->regs);
  long nr = regs_nr(&t->regs);
  if (nr == SYS_clone) {
    flags = regs_arg(&t->regs, 0); child_tid = regs_arg(&t->regs, CLONE_CHILD_ARG);
  } else if (nr == SYS_clone3) {
    peek(t->tid, regs_arg(&t->regs, 0), &flags, 8);
    peek(t->tid, regs_arg(&t->regs, 0) + 16, &child_tid, 8);
  } else flags = event == PTRACE_EVENT_VFORK ? CLONE_VM | CLONE_VFORK : 0;
  await_newborn(tid);
  bool thread = flags & CLONE_THREAD;
  struct process *p = thread ? t->p : add_process(tid, t->p, flags & CLONE_VM ? t->p->memory : new_memory());
  struct thread *child = add_thread(tid, p);
  if (flags & CLONE_CHILD_CLEARTID) child->clear_tid = child_tid;
  trace(t, -2, child->index);
  set_ready(child);
  if (event == PTRACE_EVENT_VFORK) {
    t->state = BORN_WAIT; t->set = (uint64_t)p->number; current = NULL;
  } else resume(t, PTRACE_CONT);
}

/* ---- a new program ---- */

static bool step_to(pid_t tid) {
  int status;
  if (ptrace(PTRACE_SYSCALL, tid, 0, 0) || !wait_for(tid, &status)) return false;
  return WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80);
}

#if HAVE_FAST_CLOCK
FAST_CLOCK_CODE;
static struct { const char *name; const char *code; uint64_t at; } stand_ins[] = {
  {"__vdso_clock_gettime", fast_gettime, 0}, {"__vdso_gettimeofday", fast_timeofday, 0}, {"__vdso_time", fast_time, 0},
  {"__vdso_getcpu", fast_getcpu, 0}, {"__vdso_getrandom", fast_getrandom, 0},
};
enum { STAND_INS = sizeof stand_ins / sizeof *stand_ins };
static uint64_t call_offset;

/* Where the kernel's vDSO has the functions that we replace, and a call to borrow; the same in every process. */
static void read_vdso(void) {
  void *library = call_offset ? NULL : dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  const uint8_t *base = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
  if (!library || !base) return;
  for (size_t k = 0; k < STAND_INS; k++) {
    const uint8_t *at = dlsym(library, stand_ins[k].name);
    if (at) stand_ins[k].at = (uint64_t)(at - base);
  }
  for (uint64_t i = 0; i < 8190 && !call_offset; i++) {
    bool inside = false;
    for (size_t k = 0; k < STAND_INS; k++) inside |= stand_ins[k].at && i + 2 > stand_ins[k].at && i < stand_ins[k].at + 16;
    if (base[i] == 0x0f && base[i + 1] == 0x05 && !inside) call_offset = i;
  }
}

/* Lets a thread that stands at the return of a call make another one. */
static uint64_t borrow_call(struct thread *t, uint64_t at, long nr, uint64_t a, uint64_t b, uint64_t c) {
  regs_t r = t->regs;
  regs_call(t->tid, &r, at, nr);
  regs_arg_set(&r, 0, a); regs_arg_set(&r, 1, b); regs_arg_set(&r, 2, c);
  regs_set(t->tid, &r);
  return step_to(t->tid) && step_to(t->tid) && !regs_get(t->tid, &r) ? (uint64_t)regs_result(&r) : 0;
}

/* Maps our page into the process, sends the functions of its vDSO there, and lets us answer what the processor can do. */
static bool install_fast_clock(struct thread *t, uint64_t vdso) {
  read_vdso();
  if (!call_offset || !step_to(t->tid) || regs_get(t->tid, &t->regs)) return false;
  borrow_call(t, vdso + call_offset, SYS_arch_prctl, 0x1012 /* ARCH_SET_CPUID */, 0, 0);
  bool mapped = !options.slow_clock && shared_id >= 0 && stand_ins[0].at;
  if (mapped) mapped = borrow_call(t, vdso + call_offset, SYS_shmat, (uint64_t)shared_id, PAGE_AT, SHM_EXEC) == PAGE_AT;
  regs_set(t->tid, &t->regs);
  for (size_t k = 0; mapped && k < STAND_INS; k++) {
    if (!stand_ins[k].at) continue;
    uint64_t to = PAGE_AT + PAGE_CODE + (uint64_t)(stand_ins[k].code - fast_clock), at = vdso + stand_ins[k].at;
    uint64_t words[2] = {0xb848 | to << 16, to >> 48 | 0xe0ff0000}; /* mov rax, to; jmp rax: 12 bytes, and functions begin at multiples of 16 */
    for (uint64_t i = 0; i < 2; i++) mapped &= !ptrace(PTRACE_POKETEXT, t->tid, at + 8 * i, words[i]);
  }
  return mapped;
}
#endif

static void started(struct thread *t) {
  struct process *p = t->p;
  uint64_t at, v = 0, vdso_at = 0, vdso = 0, random_at = 0;
  p->memory = new_memory(); p->any = p->program_known = p->by_futex = false; t->clear_tid = 0; t->kind = ON_NOTHING;
  forget_timers(p);
  release_parent(p);
  regs_get(t->tid, &t->regs);
  peek(t->tid, regs_sp(&t->regs), &v, 8); /* the number of arguments; then they, NULL, the environment, NULL, the vector */
  for (at = regs_sp(&t->regs) + 8 * (v + 2); peek(t->tid, at, &v, 8) && v; at += 8) {}
  at += 8;
  for (uint64_t pair[2]; peek(t->tid, at, pair, 16) && pair[0] != AT_NULL; at += 16) {
    if (pair[0] == AT_SYSINFO_EHDR) vdso_at = at, vdso = pair[1];
    if (pair[0] == AT_RANDOM) random_at = pair[1];
  }
  if (random_at) fill(p, t, random_at, 16);
#if HAVE_FAST_CLOCK
  if (vdso && install_fast_clock(t, vdso)) vdso_at = 0;
#endif
  v = AT_IGNORE;
  if (vdso_at) poke(t->tid, vdso_at, &v, 8);
  (void)vdso;
}

/* Another thread than the first one executes a program: it takes the number of the first. */
static void renumber(struct thread **t, pid_t tid) {
  unsigned long former = 0;
  ptrace(PTRACE_GETEVENTMSG, tid, 0, &former);
  if ((pid_t)former == tid) return;
  struct thread *old = thread_of((pid_t)former), *first = thread_of(tid);
  if (!old) return;
  if (first && first != old) { first->p->threads--; drop_thread(first); }
  old->tid = tid;
  *t = current = old;
}

/* ---- stops ---- */

/* A program that reads the processor's counter, or asks what it can do, is stopped by a signal. */
static bool trapped(struct thread *t) {
  regs_get(t->tid, &t->regs);
  uint8_t b[3] = {0};
  peek(t->tid, regs_pc(&t->regs), b, 2);
  peek(t->tid, regs_pc(&t->regs), b, 3); /* not all three may be there */
  int n = regs_emulate(&t->regs, b, (uint64_t)clock_read(t->p, CLOCK_MONOTONIC));
  if (!n) return false;
  counts.tscs++;
  clock_tick(1);
  regs_set(t->tid, &t->regs);
  return true;
}

static bool others_are_ready(struct thread *t) {
  for (int i = 0; i < thread_count; i++) if (threads[i] != t && threads[i]->state == READY && !threads[i]->p->paused) return true;
  return false;
}

static void follow(struct thread *t, enum verdict v) {
  switch (v) {
  case GO:
    if (++calls_in_turn > options.budget && others_are_ready(t)) set_ready(t);
    else resume(t, PTRACE_CONT);
    break;
  case HAND_OVER: set_ready(t); break;
  case WATCH: resume(t, PTRACE_SYSCALL); break;
  case PARK: current = NULL; break;
  }
}

/* The main thread ends before the others: the kernel does not tell us until they have ended too. */
static void leave_early(struct thread *t) {
  pid_t tid = t->tid;
  resume(t, PTRACE_CONT);
  for (int i = 0; i < 10000; i++) {
    char c = letter_of(tid);
    if (c == 'Z' || c == 'X') break;
    sched_yield();
  }
  wake_heirs(t);
  t->clear_tid = 0; t->state = LEADER_GONE; t->p->any = true; current = NULL;
}

static void stop_of_group(struct thread *t, int sig) {
  if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU) {
    ptrace(PTRACE_LISTEN, t->tid, 0, 0);
    t->state = STOPPED;
    if (current == t) current = NULL;
    tell_parents(t->p);
  } else if (t->state == STOPPED) set_ready(t);
  else if (t->state == RUNNING) resume(t, PTRACE_CONT);
}

/* ---- templates: a program that has come as far as to reach for something outside it, to be forked from there ---- */

/* A fork has no thread but its own, and shares what files are open: so there must be none. */
static bool may_be_forked(struct thread *t) {
  int mine = -1;
  for (int fd = 3; fd < 64 && mine < 0; fd++) mine = borrow(t, fd);
  if (mine >= 0) close(mine);
  for (int i = 0; i < MAX_PROCESSES; i++) if (processes[i].pid && processes[i].parent == t->p->number) return false;
  return mine < 0 && t->p->threads == 1;
}

/* Whether it stops here for good: where it first speaks to others, or at the place of that number before. */
static bool freezes(struct thread *t, long nr) {
  uint64_t flags = 0;
  if (nr == SYS_clone) flags = regs_arg(&t->regs, 0);
  else if (nr == SYS_clone3) peek(t->tid, regs_arg(&t->regs, 0), &flags, 8);
  bool last = flags & CLONE_THREAD || nr == SYS_socketpair || (nr == SYS_socket && regs_arg(&t->regs, 0) != AF_UNIX /* the C library asks for nscd */);
  if (!last && nr != SYS_epoll_create1 && nr != SYS_eventfd2 && nr != SYS_inotify_init1 && nr != SYS_timerfd_create) return false;
  bool fit = may_be_forked(t);
  reached += fit;
  if (!last && (!fit || reached != t->p->is_template)) return false;
  t->p->forks = forks = fit;
  t->entry = t->regs; t->state = FROZEN; current = NULL;
  return true;
}

/* Lets the frozen thread make a fork in the place of its call, and both stand before that call again. */
static struct thread *fork_template(struct process *p) {
  struct thread *t = NULL;
  unsigned long message = 0;
  int status;
  for (int i = 0; i < thread_count; i++) if (threads[i]->p == p && threads[i]->state == FROZEN && p->forks) t = threads[i];
  if (!t) return NULL;
  regs_t r;
  for (int tries = 0; !message; tries++) { /* the kernel puts a fork off while it has to look after the thread itself */
    if (tries == 100) return NULL;
    r = t->entry;
    regs_nr_set(t->tid, &r, SYS_clone);
    regs_arg_set(&r, 0, CLONE_PARENT | (t->clear_tid ? CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID : 0) | SIGCHLD);
    for (int i = 1; i < 5; i++) regs_arg_set(&r, i, i == CLONE_CHILD_ARG ? t->clear_tid : 0);
    regs_set(t->tid, &r);
    if (ptrace(PTRACE_SYSCALL, t->tid, 0, 0) || !wait_for(t->tid, &status)) return NULL;
    if (status >> 16 == PTRACE_EVENT_FORK || status >> 16 == PTRACE_EVENT_CLONE) {
      ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &message);
      await_newborn((pid_t)message);
      step_to(t->tid);
    }
    regs_rewind(&r, &t->entry); regs_set(t->tid, &r);
    do ptrace(PTRACE_CONT, t->tid, 0, 0);
    while (wait_for(t->tid, &status) && WIFSTOPPED(status) && status >> 16 != PTRACE_EVENT_SECCOMP);
  }
  regs_set((pid_t)message, &r);
  setpgid((pid_t)message, (pid_t)message);
  struct thread *child = add_thread((pid_t)message, add_process((pid_t)message, NULL, new_memory()));
  child->clear_tid = t->clear_tid; child->p->cpu = p->cpu;
  set_ready(child);
  return child;
}

static void handle_stop(struct thread *t, int status) {
  counts.stops++;
  if (WIFEXITED(status) || WIFSIGNALED(status)) {
    struct process *p = t->p;
    bool whole = p->exiting || WIFSIGNALED(status);
    bury(t, status);
    if (whole && p->pid && p->threads) finish(p);
    return;
  }
  int event = status >> 16, sig = WSTOPSIG(status);
  switch (event) {
  case PTRACE_EVENT_SECCOMP: {
    if (regs_get(t->tid, &t->regs)) break;
    long nr = regs_nr(&t->regs);
    if (t->after == AFTER_WRITE) { resume(t, PTRACE_SYSCALL); return; } /* the rest of a long write: its entry was dealt with */
    trace(t, nr, log_file ? (int64_t)regs_arg(&t->regs, 0) : 0);
    if (t->p->is_template && freezes(t, nr)) return;
    if (nr == SYS_exit && t->tid == t->p->pid && t->p->threads > 1) { leave_early(t); return; }
    enum verdict v = enter_call(t);
    if (nr != SYS_exit_group) { follow(t, v); return; }
    resume(t, PTRACE_CONT);
    finish(t->p);
    return;
  }
  case PTRACE_EVENT_EXEC:
    renumber(&t, t->tid);
    trace(t, -3, 0);
    started(t);
    resume(t, PTRACE_CONT);
    return;
  case PTRACE_EVENT_CLONE: case PTRACE_EVENT_FORK:
  case PTRACE_EVENT_VFORK: born(t, event); return;
  case PTRACE_EVENT_STOP: stop_of_group(t, sig); return;
  case 0: break;
  default: resume(t, PTRACE_CONT); return;
  }
  if (sig == (SIGTRAP | 0x80)) {
    if (regs_get(t->tid, &t->regs)) return;
    if (t->continues && regs_pc(&t->regs) == regs_pc(&t->entry) + SYSCALL_BYTES) follow(t, enter_write(t));
    else if (t->after == AFTER_NOTHING) resume(t, PTRACE_CONT);
    else follow(t, leave_call(t));
    return;
  }
  if (sig == SIGSEGV && trapped(t)) { resume(t, PTRACE_CONT); return; }
  trace(t, -4, sig);
  t->sig = sig;
  if (t->p->threads > 1) t->p->any = true; /* it may end the process: then all of its threads report */
  resume(t, t->after ? PTRACE_SYSCALL : PTRACE_CONT);
}

static void stop_of_other(pid_t tid, int status) {
  struct thread *t = thread_of(tid);
  if (!t && WIFSTOPPED(status) && earlies < 64) early[earlies++] = tid;
  if (!t) return;
  if (WIFEXITED(status) || WIFSIGNALED(status)) bury(t, status);
  else if (status >> 16 == PTRACE_EVENT_STOP) stop_of_group(t, WSTOPSIG(status));
  else if (t->state == RUNNING) handle_stop(t, status);
}

/* Takes what has happened to threads that nobody waits for: a death from outside. */
static void sweep(void) {
  int status;
  pid_t tid;
  while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) stop_of_other(tid, status);
}

/* ---- the watch ---- */

static void interrupt(struct thread *t, bool computes) {
  int status;
  ptrace(PTRACE_INTERRUPT, t->tid, 0, 0);
  if (!wait_for(t->tid, &status)) return;
  if (status >> 16 != PTRACE_EVENT_STOP) { handle_stop(t, status); return; } /* a stop of its own at this moment; the other one comes later */
  if (computes) { set_ready(t); return; }
  counts.blocked_in_kernel++; regs_get(t->tid, &t->regs);
  long nr = regs_nr(&t->regs);
  int64_t result = regs_result(&t->regs);
  trace(t, -5, nr);
  if (result > -512 || result < -516) { set_ready(t); return; }
  int fd = nr == SYS_write || nr == SYS_writev || nr == SYS_sendto || nr == SYS_sendmsg || nr == SYS_sendfile || nr == SYS_connect ? borrow(t, (int)regs_arg(&t->regs, 0)) : -1;
  park(t, fd >= 0 ? ON_FDS : ON_NOTHING, NEVER, 0);
  if (fd >= 0) hold(t, fd, EPOLLOUT);
  else t->state = IN_KERNEL;
  t->tried = counts.turns; current = NULL;
}

/* Ends the world when its real time is over, and says who stood where. */
static bool watch_limit(struct thread *t) {
  static struct timespec begin;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (!begin.tv_sec) begin = now;
  if (!options.limit_seconds || !t || now.tv_sec - begin.tv_sec < options.limit_seconds) return false;
  name_of(t);
  say("the limit of %ld s was reached; thread %d (%s) of process %d %s", options.limit_seconds, t->index, t->name, t->p->number,
      current ? "was running, without a call that lets others go on" : "waits for what never comes");
  world_over = 1; world_code = 124; current = NULL;
  return true;
}

static void watchdog(struct thread *t) {
  static int beats;
  if (watch_limit(t)) return;
  if (++beats % 100 == 0) tell_busy(t);
  cut_outputs();
  if (looked_at != counts.stops) { looked_at = counts.stops; asleep_looks = busy_looks = 0; return; }
  char c = letter_of(t->tid);
  if (c == 'S' && waits_outside(t)) return; /* the world's time does not move while somebody reads its output slowly */
  if (c == 'Z' || c == 'X' || c == 't') { sweep(); return; }
  asleep_looks = c == 'S' ? asleep_looks + 1 : 0;
  if (c == 'R' && !busy_looks++) busy_since = used_by(t->tid);
  if (asleep_looks >= 2) {
    asleep_looks = 0;
    interrupt(t, false);
  } else if (busy_looks * 10 > options.spin_milliseconds && (thread_count > 1 || options.control_out >= 0) && used_by(t->tid) - busy_since >= options.spin_milliseconds) {
    busy_looks = 0;
    tell_spinning(t);
    if (!counts.preempted++) {
      name_of(t);
      say("thread %d (%s) of process %d has computed for %ld ms without a call, and others wait: it loses its turn; such a run need not come out the same again", t->index, t->name, t->p->number, options.spin_milliseconds);
    }
    int64_t next = next_event();
    if (!others_are_ready(t) && next != NEVER && next > page->mono) page->mono = next;
    interrupt(t, true);
  }
}

/* Waits for the next stop of the running thread; false if another thing ended its turn. */
static bool await_stop(struct thread *t, int *status) {
  while (current == t && !world_over) {
    pid_t r = waitpid(t->p->any ? -1 : t->tid, status, __WALL);
    if (r == t->tid) return true;
    if (r < 0 && errno == EINTR) watchdog(t);
    else if (r < 0) { bury(t, 0); return false; }
    else if (r == t->p->pid && *status >> 16 == PTRACE_EVENT_EXEC) { renumber(&t, r); return true; }
    else stop_of_other(r, *status);
  }
  return false;
}

/* A process of ours that waits for us to take charge of it. */
static void adopt(pid_t pid) {
  long wanted = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
  if (ptrace(PTRACE_SEIZE, pid, 0, wanted))
    fatal("ptrace is not allowed here (%s): in a container, add the capability SYS_PTRACE or a seccomp profile that allows ptrace", strerror(errno));
  struct thread *t = add_thread(pid, add_process(pid, NULL, new_memory()));
  t->state = RUNNING; current = t; calls_in_turn = 0;
}

static void begin_turn(void) { calls_in_turn = 0; counts.turns++; }
