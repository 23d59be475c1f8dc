/* The driver's messages. One a line: `go 3 start arg=sleep arg=10`, `time 4 now=1893456000000`, `sever 5 process=2`; words are
 * percent-encoded. Each opens a turn; our reports are lines of JSON, as in the peer protocol, and `idle` ends the turn. */

enum { LARGEST_LINE = 1 << 20, MOST_WORDS = 8192 };
static long turn;
static char *words[MOST_WORDS];
static int word_count;

static void split(char *line) {
  word_count = 0;
  for (char *s = strtok(line, " "); s && word_count < MOST_WORDS - 1; s = strtok(NULL, " ")) {
    char *to = words[word_count++] = s;
    unsigned code;
    for (; *s; s++)
      if (*s == '%' && sscanf(s + 1, "%2x", &code) == 1) *to++ = (char)code, s += 2;
      else *to++ = *s;
    *to = 0;
  }
}

/* The values of a name, ended by NULL. */
static char **all(const char *name) {
  static char *found[2][MOST_WORDS];
  static int which;
  char **list = found[which ^= 1];
  int n = 0;
  size_t k = strlen(name);
  for (int i = 2; i < word_count; i++) if (!strncmp(words[i], name, k) && words[i][k] == '=') list[n++] = words[i] + k + 1;
  list[n] = NULL;
  return list;
}

static double number(const char *name, double otherwise) { return *all(name) ? strtod(*all(name), NULL) : otherwise; }

/* ---- reports ---- */

static void put(const char *line, size_t n) {
  while (n) {
    ssize_t k = write(options.control_out, line, n);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) exit(0); /* the driver is gone */
    line += k; n -= (size_t)k;
  }
}

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...) {
  char line[1024];
  va_list list;
  va_start(list, format);
  int n = vsnprintf(line, sizeof line - 1, format, list);
  va_end(list);
  if (n < 0) return;
  if (n > (int)sizeof line - 2) n = sizeof line - 2;
  line[n++] = '\n';
  put(line, (size_t)n);
}

static double milliseconds(int64_t mono) { return (double)(mono + page->wall) / 1e6; }

static void tell_exit(struct process *p, int code) {
  if (options.control_out >= 0) tell("{\"effect\": \"exit\", \"actor\": \"%d\", \"data\": {\"parent\": %d, \"code\": %d, \"now\": %.6f}}", p->number, p->parent, code, milliseconds(page->mono));
}

/* A turn that takes long: the driver must know that we live. */
static void tell_busy(struct thread *t) {
  if (options.control_out < 0) return;
  name_of(t);
  for (char *c = t->name; *c; c++) if (*c == '"' || *c == '\\' || (unsigned char)*c < 32) *c = '?';
  tell("{\"idle\": %ld, \"next\": null, \"io\": [\"process %d, thread %d: %s\"]}", turn, t->p->number, t->index, t->name);
}

static void tell_idle(const char *ending) {
  char next[40] = "null";
  int64_t at = next_event();
  if (at != NEVER) snprintf(next, sizeof next, "%.6f", milliseconds(at > page->mono ? at : page->mono));
  tell("{\"idle\": %ld, \"next\": %s, \"now\": %.6f, \"stops\": %llu, \"choices\": %llu, \"processes\": %d, %s}", turn, next, milliseconds(page->mono), (unsigned long long)counts.stops, (unsigned long long)counts.choices, live_processes(), ending);
}

/* ---- turns ---- */

static void run_to_rest(int64_t until) {
  for (;;) {
    int status;
    if (current) {
      struct thread *t = current;
      if (await_stop(t, &status) && current) handle_stop(current, status);
    } else if (choose(until) != CHOSEN) return;
  }
}

static struct process *numbered(int n) {
  for (int i = 0; i < MAX_PROCESSES; i++) if (processes[i].pid && processes[i].number == n) return &processes[i];
  return NULL;
}

static void end_process(struct process *p) { kill(p->pid, SIGKILL); finish(p); }

/* Ends a process and all that it has started, directly or not. */
static void sever(int n) {
  struct process *p;
  bool more = true;
  if (!(p = numbered(n))) return;
  bool doomed[MAX_PROCESSES] = {0};
  doomed[p - processes] = true;
  while (more) {
    more = false;
    for (int i = 0; i < MAX_PROCESSES; i++)
      for (int k = 0; k < MAX_PROCESSES; k++)
        if (processes[i].pid && !doomed[i] && doomed[k] && processes[i].parent == processes[k].number) more = doomed[i] = true;
  }
  for (int i = 0; i < MAX_PROCESSES; i++) if (doomed[i] && processes[i].pid) end_process(&processes[i]);
}

static const char *start(char *ending, size_t n) {
  char *output = *all("output"), *cwd = *all("cwd"), **argv = all("arg"), **env = all("env");
  int out = output ? open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (!*argv) return "there is no command";
  if (output && out < 0) return "the output file cannot be opened";
  if (spawn(argv, *env ? env : NULL, cwd, out) < 0) return "no process can be made";
  snprintf(ending, n, "\"value\": {\"process\": %d}", current->p->number);
  if (out >= 0) close(out);
  return NULL;
}

static const char *order(const char *what) {
  struct process *p = numbered((int)number("process", 0));
  if (!strcmp(what, "run")) return NULL;
  if (!strcmp(what, "tape")) for (char **choice = all("choice"); *choice; choice++) extend_tape(*choice);
  else if (!strcmp(what, "wall")) page->wall += (int64_t)(number("step", 0) * 1e6);
  else if (!p) return "there is no such process";
  else if (!strcmp(what, "kill")) end_process(p);
  else if (!strcmp(what, "signal")) {
    kill(p->pid, (int)number("signal", SIGTERM));
    p->signals = true; p->signal_stamp++;
  } else if (!strcmp(what, "stop")) p->paused = true;
  else if (!strcmp(what, "continue")) p->paused = false;
  else if (!strcmp(what, "clock")) {
    double rate = (1 + p->drift) / (1 + number("drift", 0) / 1e6);
    for (int i = 0; i < thread_count; i++) /* who waits by this clock waits as long by it as before */
      if (threads[i]->p == p && threads[i]->deadline > page->mono) threads[i]->deadline = page->mono + (int64_t)((double)(threads[i]->deadline - page->mono) * rate);
    p->offset = (int64_t)(number("offset", 0) * 1e6); p->drift = number("drift", 0) / 1e6;
    p->drift_from = page->mono;
    page->slow = 1; /* the fast clock knows one time for all */
  } else return "this is not known";
  return NULL;
}

static void message(char *line) {
  char ending[256] = "\"value\": null";
  const char *wrong = NULL;
  int64_t until = page->mono;
  split(line);
  turn = word_count > 1 ? atol(words[1]) : 0;
  if (word_count > 2 && !strcmp(words[0], "go")) wrong = strcmp(words[2], "start") ? order(words[2]) : start(ending, sizeof ending);
  else if (word_count > 1 && !strcmp(words[0], "sever")) sever((int)number("process", 0));
  else if (word_count > 2 && !strcmp(words[0], "time")) {
    int64_t next = next_event();
    until = (int64_t)(number("now", 0) * 1e6 + 0.5) - page->wall;
    if (*all("one") && next != NEVER && next < until) until = next;
  } else wrong = "a message is go, time or sever";
  if (until < page->mono) until = page->mono;
  if (!wrong) {
    run_to_rest(until);
    if (until > page->mono) page->mono = until;
  } else snprintf(ending, sizeof ending, "\"refused\": \"%s\"", wrong);
  tell_idle(ending);
}

static void serve(void) {
  static char line[LARGEST_LINE];
  size_t have = 0;
  fcntl(options.control_in, F_SETFD, FD_CLOEXEC); fcntl(options.control_out, F_SETFD, FD_CLOEXEC);
  tell("{\"hello\": 1, \"clock\": true, \"by\": \"job-harness clock\"}");
  while (!world_over) {
    ssize_t k = read(options.control_in, line + have, sizeof line - 1 - have);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return;
    have += (size_t)k;
    for (char *end; (end = memchr(line, '\n', have));) {
      *end = 0;
      message(line);
      size_t used = (size_t)(end - line) + 1;
      memmove(line, end + 1, have - used);
      have -= used;
    }
    if (have >= sizeof line - 1) fatal("a message is longer than %d bytes", LARGEST_LINE);
  }
}
