// Every clock, sleep, timer and source of chance of the C library, once, or in four threads with the argument "threads".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#define COUNTER() __rdtsc()
#else
#define COUNTER() 0ULL // Nothing traps the counter of an aarch64.
#endif

static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;

static void say(int number, const char *format, ...) {
  va_list arguments;
  pthread_mutex_lock(&saying);
  printf("%d ", number);
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
  pthread_mutex_unlock(&saying);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
#define TRY(what, asked, ...) do { double begun = now(); __VA_ARGS__; say(number, "%s asked %.3f passed %.3f", what, (double)(asked), now() - begun); } while (0)

static struct timespec in(clockid_t clock, double seconds) {
  struct timespec t;
  clock_gettime(clock, &t);
  int64_t n = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + (int64_t)(seconds * 1e9);
  return (struct timespec){n / 1000000000, n % 1000000000};
}

static void clocks(int number) {
  struct timespec t;
  struct timeval v;
  struct rusage usage;
  struct sysinfo information;
  for (clockid_t id = 0; id <= 11; id++)
    if (id != 8 && id != 9 && id != 10 && !clock_gettime(id, &t)) say(number, "clock %d %ld.%09ld", id, (long)t.tv_sec, t.tv_nsec);
  gettimeofday(&v, NULL);
  say(number, "gettimeofday %ld.%06ld time %ld", (long)v.tv_sec, (long)v.tv_usec, (long)time(NULL));
  timespec_get(&t, TIME_UTC);
  getrusage(RUSAGE_SELF, &usage);
  sysinfo(&information);
  say(number, "timespec_get %ld.%09ld clock %ld times %ld", (long)t.tv_sec, t.tv_nsec, (long)clock(), (long)times(NULL));
  say(number, "getrusage %ld.%06ld rdtsc %llu", (long)usage.ru_utime.tv_sec, (long)usage.ru_utime.tv_usec, (unsigned long long)COUNTER());
}

static void sleeps(int number) {
  int pipes[2], pair[2], status, ep = epoll_create1(0), word = 0;
  struct timespec t;
  struct timeval v = {15, 0};
  struct epoll_event event = {.events = EPOLLIN};
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  sem_t sem;
  char byte;
  if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) exit(1);
  struct pollfd p = {pipes[0], POLLIN, 0};
  epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &event);
  sem_init(&sem, 0, 0);
  TRY("sleep", 10, sleep(10));
  TRY("usleep", 0.25, usleep(250000));
  TRY("nanosleep", 1.5, nanosleep(&(struct timespec){1, 500000000}, NULL));
  TRY("thrd_sleep", 2, thrd_sleep(&(struct timespec){2, 0}, NULL));
  TRY("clock_nanosleep", 3600, t = in(CLOCK_REALTIME, 3600); clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL));
  TRY("poll", 2, poll(&p, 1, 2000));
  TRY("ppoll", 2.5, ppoll(&p, 1, &(struct timespec){2, 500000000}, NULL));
  TRY("select", 3, struct timeval s = {3, 0}; select(0, NULL, NULL, NULL, &s));
  TRY("pselect", 4, pselect(0, NULL, NULL, NULL, &(struct timespec){4, 0}, NULL));
  TRY("epoll_wait", 5, epoll_wait(ep, &event, 1, 5000));
  TRY("epoll_pwait2", 7, syscall(SYS_epoll_pwait2, ep, &event, 1, &(struct timespec){7, 0}, NULL, 8));
  pthread_mutex_lock(&mutex);
  TRY("pthread_cond_timedwait", 8, t = in(CLOCK_REALTIME, 8); pthread_cond_timedwait(&cond, &mutex, &t));
  TRY("pthread_mutex_timedlock", 9, t = in(CLOCK_REALTIME, 9); pthread_mutex_timedlock(&mutex, &t));
  TRY("sem_timedwait", 11, t = in(CLOCK_REALTIME, 11); sem_timedwait(&sem, &t));
  TRY("futex", 13, syscall(SYS_futex, &word, 0, 0, &(struct timespec){13, 0}, NULL, 0));
  setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v);
  TRY("SO_RCVTIMEO", 15, if (recv(pair[0], &byte, 1, 0) >= 0) exit(1));
  TRY("waitpid", 6, pid_t child = fork(); if (!child) { sleep(6); _exit(9); } waitpid(child, &status, 0));
  for (int i = 0; i < 2; i++) close(pipes[i]), close(pair[i]);
  close(ep);
}

static void ring(union sigval value) { sem_post(value.sival_ptr); }
static void on_alarm(int signo) { (void)signo; }

static void timers(int number) {
  sem_t sem;
  timer_t timer;
  uint64_t times;
  struct itimerspec every = {{10, 0}, {10, 0}};
  struct sigevent by_thread = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = ring, .sigev_value.sival_ptr = &sem};
  int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  sem_init(&sem, 0, 0);
  TRY("timerfd", 30, timerfd_settime(fd, 0, &every, NULL); for (int i = 0; i < 3; i++) if (read(fd, &times, 8) != 8) exit(1));
  close(fd);
  timer_create(CLOCK_REALTIME, &by_thread, &timer);
  TRY("timer_create", 20, timer_settime(timer, 0, &every, NULL); sem_wait(&sem); sem_wait(&sem));
  timer_delete(timer);
  if (number) return;  // Alarms belong to the whole process.
  struct itimerval repeated = {{2, 0}, {5, 0}}, none = {{0, 0}, {0, 0}};
  signal(SIGALRM, on_alarm);
  TRY("alarm", 20, alarm(20); pause());
  TRY("setitimer", 9, setitimer(ITIMER_REAL, &repeated, NULL); for (int i = 0; i < 3; i++) pause(); setitimer(ITIMER_REAL, &none, NULL));
}

static void chance(int number) {
  uint64_t drawn[4];
  int device = open("/dev/urandom", O_RDONLY), other = open("/dev/random", O_RDONLY);
  char name[] = "/tmp/every-XXXXXX";
  if (getrandom(&drawn[0], 8, 0) != 8 || getentropy(&drawn[1], 8) || read(device, &drawn[2], 8) != 8 || read(other, &drawn[3], 8) != 8) exit(1);
  close(device), close(other);
  say(number, "random %lx %lx %lx %lx", drawn[0], drawn[1], drawn[2], drawn[3]);
  srand((unsigned)time(NULL));
  say(number, "rand %d drand48 %f AT_RANDOM %lx arc4random %u", rand(), drand48(), *(uint64_t *)getauxval(AT_RANDOM), arc4random());
  say(number, "ids %d %d %d", getpid(), gettid(), getppid() > 0);
  int file = mkstemp(name);
  say(number, "file %s", name);
  close(file), unlink(name);
}

static void *everything(void *at) {
  int number = *(int *)at;
  clocks(number), chance(number), sleeps(number), timers(number), chance(number), clocks(number);
  return NULL;
}

int main(int count, char **arguments) {
  int numbers[] = {1, 2, 3, 4}, one = 0;
  pthread_t threads[4];
  if (count < 2 || strcmp(arguments[1], "threads")) return everything(&one) != NULL;
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, everything, &numbers[i]);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  return 0;
}
