/* Time: what a clock says, and the timers that send signals or fill descriptors. */

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static struct page *page;
static struct timer timers[MAX_TIMERS];
static int timer_top; /* no timer lies beyond */

static bool is_wall(int clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI || clock == CLOCK_REALTIME_ALARM; }
static bool is_cpu(int clock) { return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID; }

/* A reading, or a call that did not wait, moves the time. The step grows: a program that spins until a moment ends, at the
 * latest after some two million readings an hour of its time. */
static void clock_tick(int weight) {
  page->reads += (uint64_t)weight;
  uint64_t n = page->reads;
  int64_t step = 100 * (int64_t)(1 + n / 256);
  if (n > 1 << 20) step <<= (n - (1 << 20)) >> 16 > 24 ? 24 : (n - (1 << 20)) >> 16;
  page->step = step; page->mono += step;
}

static int64_t drifted(struct process *p, int64_t mono) {
  return p->drift != 0 ? mono + (int64_t)(p->drift * (double)(mono - p->drift_from)) : mono;
}

static int64_t clock_read(struct process *p, int clock) {
  if (is_cpu(clock)) return p->cpu += 1000;
  int64_t mono = drifted(p, page->mono);
  return is_wall(clock) ? mono + page->wall + p->offset : mono;
}

/* The moment on the world's monotonic clock that a program means. */
static int64_t clock_deadline(struct process *p, int clock, int64_t value, bool absolute) {
  double rate = 1 + p->drift;
  if (is_cpu(clock)) return NEVER;
  if (value > INT64_MAX / 4) value = INT64_MAX / 4;
  if (absolute) {
    int64_t left = value - (is_wall(clock) ? page->wall + p->offset : 0) - drifted(p, page->mono);
    return page->mono + (left <= 0 ? 0 : p->drift != 0 ? (int64_t)((double)left / rate) : left);
  }
  return page->mono + (p->drift != 0 ? (int64_t)((double)value / rate) : value);
}

static struct timer *new_timer(struct process *p, int what) {
  for (int i = 0; i < MAX_TIMERS; i++)
    if (timers[i].what == TIMER_FREE) {
      if (i >= timer_top) timer_top = i + 1;
      memset(&timers[i], 0, sizeof timers[i]); timers[i].what = what; timers[i].p = p; timers[i].at = NEVER;
      timers[i].fd = -1;
      return &timers[i];
    }
  fatal("more than %d timers at once", MAX_TIMERS);
}

static struct timer *find_timer(struct process *p, int what, int id) {
  for (int i = 0; i < timer_top; i++) if ((int)timers[i].what == what && timers[i].p == p && timers[i].id == id) return &timers[i];
  return NULL;
}

/* Which of our timers a borrowed descriptor belongs to. */
static struct timer *find_timerfd(int fd) {
  for (int i = 0; i < timer_top; i++)
    if (timers[i].what == TIMER_FD && !syscall(SYS_kcmp, getpid(), getpid(), 0 /* KCMP_FILE */, timers[i].fd, fd)) return &timers[i];
  return NULL;
}

/* What a process has set ends with it, or with what it executes; a descriptor may live on in a child. */
static void forget_timers(struct process *p) {
  for (int i = 0; i < timer_top; i++) {
    struct timer *t = &timers[i];
    if (t->what == TIMER_FREE || t->p != p) continue;
    if (t->what == TIMER_FD) {
      if (p->pid && !p->exiting) continue;
      struct process *heir = NULL;
      for (int k = 0; k < MAX_PROCESSES && !heir; k++)
        if (processes[k].pid && processes[k].parent == p->number) heir = &processes[k];
      if (heir) { t->p = heir; continue; }
      close(t->fd);
    }
    if (t->what == TIMER_ITIMER && !p->exiting) continue;
    t->what = TIMER_FREE;
  }
}

static void send_signal(struct process *p, pid_t thread, int signo, int code, int id, uint64_t value) {
  siginfo_t info;
  memset(&info, 0, sizeof info); info.si_signo = signo; info.si_code = code; info.si_timerid = id;
  info.si_value.sival_ptr = (void *)(uintptr_t)value;
  if (thread) syscall(SYS_rt_tgsigqueueinfo, p->pid, thread, signo, &info);
  else syscall(SYS_rt_sigqueueinfo, p->pid, signo, &info);
  p->signals = true; p->signal_stamp++;
}

static void fire(struct timer *t) {
  if (t->what == TIMER_FD) {
    if (!ready_now(t->fd, POLLIN)) t->count = 0;
    t->count++;
    if (t->every > 0 && page->mono > t->at) t->count += (uint64_t)((page->mono - t->at) / t->every);
    if (ioctl(t->fd, TFD_IOC_SET_TICKS, &t->count)) {
      struct itimerspec at_once = {.it_value = {0, 1}};
      timerfd_settime(t->fd, 0, &at_once, NULL);
    }
  } else if (t->signo) { send_signal(t->p, t->tid, t->signo, SI_TIMER, t->id, t->value); }
  if (t->every > 0) {
    int64_t rounds = (page->mono - t->at) / t->every + 1;
    t->at += rounds * t->every;
  } else t->at = NEVER;
}

/* A descriptor whose last expiry nobody has read changes nothing when it expires again: it moves no time. */
static int64_t next_timer(void) {
  int64_t at = NEVER;
  for (int i = 0; i < timer_top; i++) {
    struct timer *t = &timers[i];
    if (t->what == TIMER_FREE || t->at == NEVER || t->p->paused) continue;
    if (at != NEVER && t->at >= at) continue;
    if (t->what == TIMER_FD && t->count && ready_now(t->fd, POLLIN)) continue;
    at = t->at;
  }
  return at;
}

static void fire_timers(void) {
  for (;;) {
    struct timer *first = NULL;
    for (int i = 0; i < timer_top; i++) {
      struct timer *t = &timers[i];
      if (t->what == TIMER_FREE || t->at == NEVER || t->at > page->mono || t->p->paused) continue;
      if (!first || t->at < first->at) first = t;
    }
    if (!first) return;
    fire(first);
  }
}
