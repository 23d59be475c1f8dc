/* Whose turn it is, when the world is at rest, and when time moves. */


/* Ticks with which a runtime keeps house. They move no time: such a thread acts when somebody else's time has come.
 * Nothing is ever guessed: what is not in this table acts at the very moment that it asked for. */
static const struct { const char *thread, *command, *call; int64_t asked; } housekeeping[] = {
  {"VM Periodic Tas", NULL, "futex", 0},          /* JVM: 50 ms */
  {"Monitor Deflati", NULL, "futex", 0},          /* JVM: 250 ms */
  {"VM Thread", NULL, "futex", 0},                /* JVM: 1 s */
  {"C1 CompilerThre", NULL, "futex", 0},          /* JVM: 5 s */
  {"C2 CompilerThre", NULL, "futex", 0},          /* JVM: 5 s */
  {NULL, "postgres: background writer", NULL, 0}, /* PostgreSQL: 200 ms, 10 s when idle */
  {NULL, "postgres: walwriter", NULL, 0},         /* PostgreSQL: 200 ms, 5 s when idle */
  {NULL, "postgres: autovacuum launcher", NULL, 0},
  {"python", NULL, "poll", SECOND / 2}, /* Python's socketserver.serve_forever: half a second, each time */
};

static bool is_housekeeping(struct thread *t) {
  char command[256];
  if (!t->name[0] || t->looked < 8) { /* names are given soon after the start */
    t->looked++;
    name_of(t);
  }
  bool named = !strncmp(t->name, "postgres", 8), listed = false;
  int64_t asked = t->deadline - page->mono;
  for (size_t i = 0; i < sizeof housekeeping / sizeof *housekeeping; i++) {
    const char *name = housekeeping[i].thread;
    if (!name || strncmp(name, t->name, strlen(name))) continue;
    if (!housekeeping[i].asked || (asked == housekeeping[i].asked && t->nr == SYS_poll)) return true;
  }
  if (!named) return false;
  command_of(t, command, sizeof command);
  for (size_t i = 0; i < sizeof housekeeping / sizeof *housekeeping; i++) listed |= housekeeping[i].command && strstr(command, housekeeping[i].command);
  return listed;
}

static void look_at_files(void) {
  struct epoll_event found[64];
  look++;
  if (!held_total) return;
  int n = epoll_wait(poller, found, 64, 0);
  for (int i = 0; i < n; i++) ((struct thread *)found[i].data.ptr)->hot = look;
}

/* Who was stopped by a signal and is now continued says so in its own time: wait for it. */
static void await_continued(void) {
  for (int i = 0; i < thread_count && continued; i++) {
    int status;
    if (threads[i]->state != STOPPED || !threads[i]->continued) continue;
    threads[i]->continued = false;
    while (waitpid(threads[i]->tid, &status, __WALL) < 0 && errno == EINTR) {}
    handle_stop(threads[i], status);
    i = -1;
  }
  continued = false;
}

enum reason { BY_NOTHING, BY_TURN, BY_FILE, BY_TIME, BY_SIGNAL, BY_CHILD };

static enum reason reason_to_go(struct thread *t) {
  if (t->p->paused) return BY_NOTHING;
  if (t->state == READY) return BY_TURN;
  if (t->state != PARKED) return BY_NOTHING;
  if (t->hot == look) return BY_FILE;
  if (t->again) return BY_CHILD;
  if (t->p->signals && (signal_ends(t) || (t->probe && t->probed != t->p->signal_stamp))) return BY_SIGNAL;
  if (t->deadline != NEVER && t->deadline <= page->mono && !t->held_back) return BY_TIME;
  return BY_NOTHING;
}

static void go(struct thread *t, enum reason why) {
  begin_turn();
  switch (why) {
  case BY_SIGNAL: {
    uint64_t ends = signals_for(t, false);
    let_go(t); t->regs = t->entry;
    t->kept = t->deadline != NEVER && !(ends & status_field(t->tid, "SigCgt", 16, false)); /* after a handler, the next wait is another one */
    if (!ends) {
      t->kept = true;
      probe(t);
      resume(t, PTRACE_SYSCALL);
    } else if (t->continues || t->kind == ON_CHILD || t->kind == ON_LOCK) {
      break_off(t);
      resume(t, PTRACE_CONT);
    } else if (t->kind == ON_SLEEP) {
      t->after = AFTER_SLEEP;
      resume(t, PTRACE_SYSCALL);
    } else resume(t, PTRACE_CONT);
    return;
  }
  case BY_TIME:
    let_go(t); t->regs = t->entry;
    if (t->nr == SYS_pselect6 || t->nr == SYS_select) empty_sets(t);
    answer(t, t->at_deadline);
    break;
  default: let_go(t);
  }
  t->again = false;
  resume(t, t->continues ? PTRACE_SYSCALL : PTRACE_CONT);
}

/* A signal that all threads of a process hold back is looked for again only when something has changed. */
static void settle_signals(void) {
  for (int i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (!p->pid || !p->signals) continue;
    bool left = false;
    for (int k = 0; k < thread_count && !left; k++) left = threads[k]->p == p && (threads[k]->state != PARKED || signals_for(threads[k], true));
    p->signals = left;
  }
}

static int64_t earlier(int64_t a, int64_t b) { return a == NEVER || (b != NEVER && b < a) ? b : a; }

/* What one look at all threads finds. */
struct view {
  struct thread *best, *stuck, *first; /* who goes now; who may try again; who waits for the next moment */
  enum reason why;
  int64_t next, house;
  bool signals, alone;
};

static struct view look_around(bool chooses) {
  struct view v = {.why = BY_NOTHING, .next = NEVER, .house = NEVER};
  uint64_t met = 0;
  for (int i = 0; i < thread_count; i++) {
    struct thread *t = threads[i];
    if (t->p->signals) v.signals = true;
    enum reason why = reason_to_go(t);
    if (why != BY_NOTHING) {
      if (!t->since) t->since = ++ticket;
      met++;
      if (!v.best || t->since < v.best->since) v.best = t, v.why = why;
    } else if (t->p->paused) continue;
    else if (t->state == IN_KERNEL || (t->state == PARKED && t->kind == ON_LOCK)) {
      if (t->tried < counts.turns && (!v.stuck || t->tried < v.stuck->tried)) v.stuck = t;
    } else if (t->state != PARKED || t->deadline == NEVER || t->held_back) continue;
    else if (t->housekeeping) v.house = earlier(v.house, t->deadline);
    else if (v.next == NEVER || t->deadline <= v.next) {
      v.alone = t->deadline != v.next; v.next = t->deadline;
      if (v.alone) v.first = t;
    }
  }
  for (uint64_t k = chooses ? choice_of(met) : 0; k; k--) { /* one who came later */
    struct thread *next = NULL;
    for (int i = 0; i < thread_count; i++)
      if (threads[i]->since > v.best->since && reason_to_go(threads[i]) && (!next || threads[i]->since < next->since)) next = threads[i];
    v.best = next;
  }
  if (v.best) v.why = reason_to_go(v.best);
  return v;
}

static int64_t next_event(void) { return earlier(look_around(false).next, next_timer()); }

/* Whether the driver has to act before time moves. */
static bool is_news(void) { return news || (options.watch >= 0 && ready_now(options.watch, POLLIN)); }

/* Gives the turn to a thread; or says that all wait, and that time may not move beyond `until` (NEVER: it may). */
static enum choice choose(int64_t until) {
  for (uint64_t flushed = 0;;) {
    if (world_over || !thread_count) return ENDED;
    if (spun) return AT_REST;
    fire_timers();
    await_continued();
    if (flushed != counts.turns) flush_loopback();
    look_at_files();
    struct view v = look_around(true);
    if (v.best) { go(v.best, v.why); return CHOSEN; }
    if (flushed != counts.turns) { /* what one packet has set off may have sent another */
      flushed = counts.turns;
      if (v.signals) settle_signals();
      if (uses_inet && held_total) { flush_loopback(); continue; }
    }
    if (v.stuck) {
      uint64_t turn = counts.turns;
      begin_turn();
      counts.turns = turn; /* a try is no progress, or two that wait would try for ever */
      v.stuck->tried = turn; let_go(v.stuck);
      resume(v.stuck, PTRACE_CONT);
      return CHOSEN;
    }
    int64_t timer = next_timer(), next = earlier(v.next, timer);
    bool at_rest = next == NEVER || (until != NEVER && next > until);
    if (!at_rest && is_news()) return AT_REST;
    if (at_rest || counts.jumps % 64 == 0) { /* has anybody ended whom nobody waits for? */
      uint64_t before = counts.processes + (uint64_t)thread_count;
      sweep();
      if (before != counts.processes + (uint64_t)thread_count) continue;
    }
    if (at_rest) return AT_REST;
    if (options.outside_milliseconds && held_total) {
      struct pollfd p = {poller, POLLIN, 0};
      if (poll(&p, 1, (int)options.outside_milliseconds) > 0) continue;
    }
    if (next > page->mono) { page->mono = next; counts.jumps++; }
    page->reads = 0; page->step = 100;
    if (v.alone && next != timer && (v.house == NEVER || v.house > next)) { /* nobody else's moment: no need to look again */
      fire_timers(); /* a descriptor that nobody has read counts on */
      v.first->since = ++ticket;
      go(v.first, BY_TIME);
      return CHOSEN;
    }
  }
}
