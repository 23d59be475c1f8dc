// Every limited wait and every timer that the C library offers; prints what was asked and what passed.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static double begun;
static volatile int alarms;
static void on_alarm(int signo) { alarms += signo > 0; }
static void said(const char *what, double asked) { printf("%s asked %.3f passed %.3f\n", what, asked, now() - begun); }
#define TRY(what, asked, ...) do { begun = now(); __VA_ARGS__; said(what, asked); } while (0)

static struct timespec in(clockid_t clock, double seconds) {
  struct timespec t;
  clock_gettime(clock, &t);
  int64_t n = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + (int64_t)(seconds * 1e9);
  return (struct timespec){n / 1000000000, n % 1000000000};
}

static void ring(union sigval v) { sem_post(v.sival_ptr); }

static void *count(void *at) {
  for (int i = 0; i < 1000; i++) {
    ++*(volatile long *)at;
    if (i % 100 == 0) sched_yield();
  }
  return NULL;
}

int main(void) {
  int pipes[2], pair[2], status;
  struct timespec t;
  struct timeval v;
  fd_set set;
  sigset_t signals;
  struct epoll_event event = {.events = EPOLLIN};
  char byte, vector[2][8];
  if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
  struct pollfd p = {pipes[0], POLLIN, 0};
  TRY("sleep", 10, sleep(10));
  TRY("usleep", 0.25, usleep(250000));
  TRY("nanosleep", 1.5, nanosleep(&(struct timespec){1, 500000000}, NULL));
  TRY("clock_nanosleep absolute", 3600, t = in(CLOCK_REALTIME, 3600); clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL));
  TRY("poll", 2, poll(&p, 1, 2000));
  TRY("ppoll", 2.5, ppoll(&p, 1, &(struct timespec){2, 500000000}, NULL));
  TRY("select", 3, FD_ZERO(&set); FD_SET(pipes[0], &set); v = (struct timeval){3, 0}; printf("%d ", select(pipes[0] + 1, &set, NULL, NULL, &v)); printf("%d ", FD_ISSET(pipes[0], &set)));
  TRY("pselect", 4, t = (struct timespec){4, 0}; pselect(0, NULL, NULL, NULL, &t, NULL));
  int ep = epoll_create1(0);
  epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &event);
  TRY("epoll_wait", 5, epoll_wait(ep, &event, 1, 5000));
  TRY("epoll_pwait", 6, epoll_pwait(ep, &event, 1, 6000, NULL));
  TRY("epoll_pwait2", 7, syscall(SYS_epoll_pwait2, ep, &event, 1, &(struct timespec){7, 0}, NULL, 8));
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  pthread_mutex_lock(&mutex);
  TRY("cond_timedwait", 8, t = in(CLOCK_REALTIME, 8); pthread_cond_timedwait(&cond, &mutex, &t));
  TRY("mutex_timedlock", 9, t = in(CLOCK_REALTIME, 9); pthread_mutex_timedlock(&mutex, &t));
  sem_t sem;
  sem_init(&sem, 0, 0);
  TRY("sem_timedwait", 11, t = in(CLOCK_REALTIME, 11); sem_timedwait(&sem, &t));
  TRY("sem_clockwait", 12, t = in(CLOCK_MONOTONIC, 12); sem_clockwait(&sem, CLOCK_MONOTONIC, &t));
  int word = 0;
  TRY("futex", 13, syscall(SYS_futex, &word, 0, 0, &(struct timespec){13, 0}, NULL, 0));
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  TRY("sigtimedwait", 14, sigtimedwait(&signals, NULL, &(struct timespec){14, 0}));
  v = (struct timeval){15, 0};
  setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v);
  TRY("SO_RCVTIMEO", 15, printf("%zd %d ", recv(pair[0], &byte, 1, 0), errno == EAGAIN));
  struct iovec io[2] = {{vector[0], 8}, {vector[1], 8}};
  struct mmsghdr messages[2];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < 2; i++) messages[i].msg_hdr.msg_iov = &io[i], messages[i].msg_hdr.msg_iovlen = 1;
  TRY("recvmmsg", 15, recvmmsg(pair[0], messages, 2, 0, NULL));
  signal(SIGALRM, on_alarm);
  TRY("alarm", 20, alarm(20); pause());
  struct itimerval every = {{2, 0}, {5, 0}}, none = {{0, 0}, {0, 0}};
  TRY("setitimer", 11, setitimer(ITIMER_REAL, &every, NULL); for (int i = 0; i < 4; i++) pause(); setitimer(ITIMER_REAL, &none, NULL));
  TRY("nanosleep interrupted", 5, alarm(5); nanosleep(&(struct timespec){60, 0}, &t); printf("%ld left ", (long)t.tv_sec));
  TRY("poll interrupted", 5, alarm(5); printf("%d ", poll(&p, 1, 60000)));
  TRY("poll again after a signal", 13, alarm(3); while (poll(&p, 1, 10000) < 0) {});
  TRY("select again after a signal", 13, alarm(3); do v = (struct timeval){10, 0}; while (select(0, NULL, NULL, NULL, &v) < 0));
  signal(SIGALRM, SIG_IGN);
  TRY("poll beside an ignored signal", 60, alarm(5); printf("%d ", poll(&p, 1, 60000)));
  TRY("nanosleep beside an ignored signal", 60, alarm(5); nanosleep(&(struct timespec){60, 0}, NULL));
  TRY("select beside an ignored signal", 60, alarm(5); v = (struct timeval){60, 0}; select(0, NULL, NULL, NULL, &v));
  timer_t timer;
  struct sigevent by_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1}, by_thread = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = ring, .sigev_value.sival_ptr = &sem};
  struct itimerspec after = {{30, 0}, {30, 0}}, left;
  timer_create(CLOCK_MONOTONIC, &by_signal, &timer);
  siginfo_t info;
  TRY("timer_create, signal", 90, timer_settime(timer, 0, &after, NULL); for (int i = 0; i < 3; i++) sigwaitinfo(&signals, &info); timer_gettime(timer, &left); printf("%ld %d ", (long)(left.it_value.tv_sec + 1), info.si_code == SI_TIMER));
  timer_delete(timer);
  timer_create(CLOCK_REALTIME, &by_thread, &timer);
  TRY("timer_create, thread", 60, timer_settime(timer, 0, &after, NULL); sem_wait(&sem); sem_wait(&sem));
  timer_delete(timer);
  int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  uint64_t times;
  after = (struct itimerspec){{10, 0}, {10, 0}};
  TRY("timerfd", 30, timerfd_settime(fd, 0, &after, NULL); for (int i = 0; i < 3; i++) if (read(fd, &times, 8) != 8) return 1);
  TRY("timerfd unread", 65, sleep(65); if (read(fd, &times, 8) == 8) printf("%d times ", (int)times));
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
  TRY("timerfd in epoll", 5, printf("%d ", epoll_wait(ep, &event, 1, -1)));
  int sfd = signalfd(-1, &signals, 0);
  struct pollfd q = {sfd, POLLIN, 0};
  struct signalfd_siginfo read_info;
  TRY("signalfd, poll", 3, printf("%d ", poll(&q, 1, 3000)));
  if (!fork()) {
    sleep(4);
    kill(getppid(), SIGUSR1);
    _exit(7);
  }
  TRY("signalfd, signal", 4, printf("%d ", poll(&q, 1, 60000)); printf("%d ", read(sfd, &read_info, sizeof read_info) == sizeof read_info));
  waitpid(-1, &status, 0);
  if (!fork()) {
    sleep(6);
    _exit(9);
  }
  TRY("waitpid", 6, waitpid(-1, &status, 0); printf("%d ", WEXITSTATUS(status)));
  long shared = 0;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, count, &shared);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  TRY("a loop on the clock", 2, double end = now() + 2; while (now() < end) {});
  TRY("a loop of sched_yield", 1, double end = now() + 1; while (now() < end) sched_yield());
  TRY("a loop of polls", 1, double end = now() + 1; while (now() < end) poll(&p, 1, 0));
  uint64_t random;
  if (getrandom(&random, 8, 0) != 8) return 1;
  printf("%ld %ld %llx %d %ld\n", shared, (long)time(NULL), (unsigned long long)random, getpid(), (long)times);
  return 3;
}
