/* The processes and threads of a world, and what the parts of the supervisor ask of each other. */
#ifndef WORLD_H
#define WORLD_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sys/ptrace.h> /* before <linux/ptrace.h> */
#include <linux/ptrace.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "machine.h"

enum { MAX_THREADS = 4096, MAX_PROCESSES = 1024, MAX_TIMERS = 2048, NEVER = -1 };
#define SECOND 1000000000LL

/* The page that every process shares with us; its layout is known to the code in machine.h. */
struct page {
  volatile int64_t mono, wall; /* monotonic nanoseconds; what to add for the wall clock */
  volatile uint64_t reads;     /* clock readings since somebody last waited */
  volatile uint32_t slow, unused;
  volatile int64_t step; /* what one reading moves the time by */
};

struct process {
  pid_t pid, inner;            /* in our namespace, and in its own; inner is 0 until somebody asks */
  int number, threads, parent; /* number of birth, from 1; number of the parent */
  int root;                    /* number of what the driver started, whose descendant it is */
  int pidfd, memory;           /* memory: processes with the same one share their memory */
  uint64_t chance;             /* state of its source of chance */
  int64_t cpu;                 /* its processor time, as told */
  int64_t offset, drift_from;  /* faults of its clock */
  double drift;
  bool signals, any, paused, has_signalfd, exiting, forks, program_known, by_futex;
  int is_template;             /* at which of the places that are fit it stops; -1: where it speaks to others */
  uint64_t signal_stamp;
};

enum state { NONE, RUNNING, READY, PARKED, STOPPED, BORN_WAIT, IN_KERNEL, LEADER_GONE, FROZEN };
enum kind { ON_NOTHING, ON_FDS, ON_FUTEX, ON_CHILD, ON_SIGNAL, ON_SLEEP, ON_LOCK };
enum after { AFTER_NOTHING, AFTER_WAIT, AFTER_LOCK, AFTER_PROBE, AFTER_KILL, AFTER_SLEEP, AFTER_TIMERFD, AFTER_SIGNALFD, AFTER_WRITE };

struct key { uint64_t where, file, offset; };

struct thread { /* what each look at all threads needs comes first */
  enum state state;
  enum kind kind;
  struct process *p;
  int64_t deadline, at_deadline; /* when the wait ends by itself, and what it then returns */
  int64_t parked_at;
  int serial; /* of its wait */
  uint64_t since, tried, hot;    /* ticket since when it could go on; turn of the last try; the look that found its files ready */
  bool again, housekeeping, kept, probe, continues, continued, held_back;
  enum after after;
  pid_t tid;
  int index, sig, looked;
  long nr;
  uint64_t probed;
  int *held, helds, room; /* our descriptors for the files it waits for */
  struct key key;
  uint32_t bits;
  uint64_t set, clear_tid, mask_at; /* signals that end its wait */
  uint64_t buffer, size;            /* of a long write, and what of it is written */
  int64_t written;
  regs_t regs, entry; /* at the stop; at the entry of the call that waits */
  char name[20];
};

struct timer {
  enum { TIMER_FREE, TIMER_ITIMER, TIMER_POSIX, TIMER_FD } what;
  struct process *p;
  int id, fd, signo, notify;
  pid_t tid;
  uint64_t value, count;
  int64_t at, every;
  int clock;
};

struct options {
  uint64_t seed;
  int64_t start;
  bool shuffle, plain_pids, slow_clock, stats, no_pin, own_net, hold_sleeps;
  long budget, limit_seconds, spin_milliseconds, outside_milliseconds;
  int control_in, control_out, sockets, watch, store_port;
  char *mounts[16]; /* pairs: what stands in the place of which file */
  int mount_count;
};


struct counts { uint64_t choices, stops, turns, jumps, clock_stops, tscs, preempted, blocked_in_kernel, threads, processes, hash; };

/* What a call comes to: it runs or is answered; it was answered and gives its turn away; it runs and stops at its return; it
 * waits here. */
enum verdict { GO, HAND_OVER, WATCH, PARK };
enum choice { CHOSEN, AT_REST, ENDED };

static struct thread *threads[MAX_THREADS], *current; /* the living, in order of birth; whose turn it is */
static struct process processes[MAX_PROCESSES];
static struct counts counts;
static bool forks;
static int reached, parks, guard_in = -1, guard_out = -1;
static bool spun, news; /* a process computes without end; a process that the driver started has ended */
static int thread_count, poller = -1, held_total, shared_id = -1, world_over, world_code;
static uint64_t ticket, look; /* who came first; number of the look at all files */
static bool uses_inet, continued;
static pid_t first_process;
static FILE *log_file;

static bool is_housekeeping(struct thread *t);
static bool signal_ends(struct thread *t);
static void let_go(struct thread *t);
static uint64_t status_field(pid_t tid, const char *name, int base, bool last);
static void finish(struct process *p);
static void tell_exit(struct process *p, int code);
static void tell_busy(struct thread *t);
static void tell_spinning(struct thread *t);
static void tell_fatal(const char *why);
static void cut_outputs(void);
static int64_t next_event(void);
static int spawn(char **argv, char **envp, const char *cwd, int out);
static enum verdict dispatch(struct thread *t, long nr);
#endif
