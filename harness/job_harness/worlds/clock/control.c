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
  static char line[1 << 16];
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
  tell("{\"idle\": %ld, \"next\": null, \"root\": %d, \"io\": [\"process %d, thread %d: %s\"]}", turn, t->p->root, t->p->number, t->index, t->name);
}

static void tell_fatal(const char *why) {
  if (options.control_out >= 0) tell("{\"idle\": %ld, \"fatal\": \"%s\"}", turn, why);
}

static void tell_spinning(struct thread *t) {
  spun = options.control_out >= 0;
  if (options.control_out >= 0) tell("{\"effect\": \"spinning\", \"actor\": \"%d\", \"data\": {\"now\": %.6f}}", t->p->root, milliseconds(page->mono));
}

static void tell_idle(const char *ending) {
  char next[40] = "null", due[40] = "null", sleeps[1 << 15] = "";
  size_t n = 0;
  int64_t at = next_event();
  if (at != NEVER && at < page->mono) at = page->mono;
  if (at != NEVER) {
    snprintf(next, sizeof next, "%.6f", milliseconds(at));
    snprintf(due, sizeof due, "%lld", (long long)((at + page->wall + 999) / 1000));
  }
  for (int i = 0; i < thread_count && n < sizeof sleeps - 128; i++) {
    struct thread *t = threads[i];
    if (t->state == PARKED && t->held_back) n += (size_t)snprintf(sleeps + n, sizeof sleeps - n, "%s[%d, %d, %.6f, %.6f]", n ? ", " : "", t->p->root, t->serial, milliseconds(t->deadline), (double)(t->deadline - t->parked_at) / 1e6);
  }
  tell("{\"idle\": %ld, \"next\": %s, \"now\": %.6f, \"moment\": %lld, \"due\": %s, \"stops\": %llu, \"choices\": %llu, \"processes\": %d, \"preempted\": %llu, \"reached\": %d, \"forks\": %d, \"sleeps\": [%s], %s}", turn, next, milliseconds(page->mono), (long long)((page->mono + page->wall + 999) / 1000), due, (unsigned long long)counts.stops, (unsigned long long)counts.choices, live_processes(), (unsigned long long)counts.preempted, reached, forks, sleeps, ending);
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
  for (int i = 0; i < MAX_PROCESSES; i++) if (processes[i].pid && processes[i].root == n) end_process(&processes[i]);
}

/* What processes print, to be cut where it is too much. */
enum { MOST_OUTPUTS = 64, LARGEST_OUTPUT = 1 << 24 };
static int outputs[MOST_OUTPUTS], output_count;

static void cut_outputs(void) {
  struct stat s;
  for (int i = 0; i < output_count; i++) if (!fstat(outputs[i], &s) && s.st_size > LARGEST_OUTPUT && ftruncate(outputs[i], 0)) continue;
}

/* The world is as it was when only templates were there. */
static void reset(int64_t start) {
  static uint64_t was[5];
  static int base;
  static int64_t mono;
  int32_t pid = 1000;
  for (int i = 0; i < MAX_PROCESSES; i++) if (processes[i].pid && !processes[i].is_template) end_process(&processes[i]);
  if (!mono) { mono = page->mono; base = output_count; was[0] = counts.processes; was[1] = counts.threads; was[2] = ticket; was[3] = (uint64_t)memories; was[4] = (uint64_t)parks; }
  while (output_count > base) close(outputs[--output_count]);
  counts.processes = was[0]; counts.threads = was[1]; ticket = was[2]; memories = (int)was[3]; parks = (int)was[4];
  tape_end = tape_at = 0; shuffling = options.seed ^ 0x5bd1e995; counts.hash = 0;
  page->mono = mono; page->wall = start * 1000000 - mono; page->reads = 0; page->step = 100; page->slow = options.slow_clock;
  if (guard_in >= 0 && write(guard_in, &pid, sizeof pid) == sizeof pid && read(guard_out, &pid, 1) == 1) return;
}

/* Our own beat may interrupt it on a busy machine: it goes on all the same, and is waited for. */
static bool connects(int fd, struct sockaddr_in *at) {
  if (!connect(fd, (void *)at, sizeof *at)) return true;
  if (errno != EINTR) return false;
  struct pollfd p = {fd, POLLOUT, 0};
  while (poll(&p, 1, -1) < 0 && errno == EINTR) {}
  int failed = 0;
  socklen_t n = sizeof failed;
  return !getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &n) && !failed;
}

/* A socket of this world for the driver, which lives in another one. */
static const char *give_socket(bool listens) {
  int one = 1, fd = socket(AF_INET, (number("udp", 0) ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number("port", 0)), .sin_addr.s_addr = htonl((uint32_t)number("address", INADDR_LOOPBACK))};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  bool fine = listens ? !bind(fd, (void *)&at, sizeof at) && (number("udp", 0) || !listen(fd, 128)) : connects(fd, &at);
  union { struct cmsghdr head; char room[CMSG_SPACE(sizeof fd)]; } more = {.head = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS}};
  char byte = 0;
  struct iovec part = {&byte, 1};
  memcpy(CMSG_DATA(&more.head), &fd, sizeof fd);
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &more, .msg_controllen = sizeof more};
  ssize_t sent = fine ? sendmsg(options.sockets, &m, 0) : -1;
  while (fine && sent < 0 && errno == EINTR) sent = sendmsg(options.sockets, &m, 0);
  fine = sent == 1;
  close(fd);
  uses_inet = true;
  return fine ? NULL : listens ? "the address cannot be listened at" : "nobody listens there";
}

static void name_process(struct thread *t, char *ending, size_t n) {
  if (*all("seed")) for (const char *s = *all("seed"), *e = s + strlen(s); s < e; s++) t->p->chance = (t->p->chance ^ (uint8_t)*s) * 0x100000001b3ULL;
  snprintf(ending, n, "\"value\": {\"process\": %d, \"pid\": %d}", t->p->number, (int)status_field(t->p->pid, "NStgid", 10, true));
}

static const char *start_fork(char *ending, size_t n) {
  struct process *p = numbered((int)number("process", 0));
  struct thread *t = p ? fork_template(p) : NULL;
  if (!t) return "it is no template";
  t->p->chance = options.seed;
  name_process(t, ending, n);
  return NULL;
}

static const char *start(char *ending, size_t n) {
  char *output = *all("output"), *cwd = *all("cwd"), **argv = all("arg"), **env = all("env");
  int out = output ? open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (!*argv) return "there is no command";
  if (output && out < 0) return "the output file cannot be opened";
  if (spawn(argv, *env ? env : NULL, cwd, out) < 0) return "no process can be made";
  current->p->is_template = (int)number("template", 0); reached = 0; forks = false;
  name_process(current, ending, n);
  if (out >= 0 && output_count < MOST_OUTPUTS) outputs[output_count++] = out;
  else if (out >= 0) close(out);
  return NULL;
}

static const char *order(const char *what) {
  struct process *p = numbered((int)number("process", 0));
  if (!strcmp(what, "run")) return NULL;
  if (!strcmp(what, "listen") || !strcmp(what, "connect")) return give_socket(*what == 'l');
  if (!strcmp(what, "reset")) { reset((int64_t)number("start", (double)options.start)); return NULL; }
  if (!strcmp(what, "fire")) {
    for (int i = 0; i < thread_count; i++)
      if (threads[i]->serial == (int)number("wait", 0) && threads[i]->state == PARKED && threads[i]->held_back) {
        threads[i]->held_back = false;
        if (threads[i]->deadline > page->mono) threads[i]->deadline = page->mono;
      }
    return NULL;
  }
  if (!strcmp(what, "tape")) for (char **choice = all("choice"); *choice; choice++) extend_tape(*choice);
  else if (!strcmp(what, "wall")) page->wall += (int64_t)(number("step", 0) * 1e6);
  else if (!p) return "there is no such process";
  else if (!strcmp(what, "kill")) end_process(p);
  else if (!strcmp(what, "signal")) {
    kill(p->pid, (int)number("signal", SIGTERM));
    p->signals = true; p->signal_stamp++;
  } else if (!strcmp(what, "stop") || !strcmp(what, "continue")) {
    for (int i = 0; i < MAX_PROCESSES; i++) if (processes[i].pid && processes[i].root == p->root) processes[i].paused = *what == 's';
  }
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
  int64_t until = NEVER;
  split(line);
  news = spun = false;
  turn = word_count > 1 ? atol(words[1]) : 0;
  if (word_count > 2 && !strcmp(words[0], "go")) wrong = !strcmp(words[2], "start") ? start(ending, sizeof ending) : !strcmp(words[2], "fork") ? start_fork(ending, sizeof ending) : order(words[2]);
  else if (word_count > 1 && !strcmp(words[0], "sever")) sever((int)number("process", 0));
  else if (word_count > 2 && !strcmp(words[0], "time")) {
    int64_t next = next_event();
    until = (*all("us") ? strtoll(*all("us"), NULL, 10) * 1000 : (int64_t)(number("now", 0) * 1e6 + 0.5)) - page->wall;
    if (*all("one") && next != NEVER && next < until) until = next;
  } else wrong = "a message is go, time or sever";
  if (until < page->mono) until = page->mono;
  if (!wrong) {
    run_to_rest(until);
    if (until > page->mono && !is_news()) page->mono = until;
  } else snprintf(ending, sizeof ending, "\"refused\": \"%s\"", wrong);
  tell_idle(ending);
}

static void serve(void) {
  static char line[LARGEST_LINE];
  size_t have = 0;
  const int ours[] = {options.control_in, options.control_out, options.sockets, options.watch};
  for (int i = 0; i < 4; i++) if (ours[i] >= 0) fcntl(ours[i], F_SETFD, FD_CLOEXEC);
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
