/* What differs between processors: registers, the numbers of calls, the code that stands in for the vDSO.
 * x86_64 is what was run. The aarch64 half compiles and was never run: it has no fast clock and no trap of the counter. */
#ifndef MACHINE_H
#define MACHINE_H

#define PAGE_AT 0x6f0000000000ULL /* where every process finds the page with the time; free in all layouts that we met */
#define PAGE_CODE 4096            /* offset of the code in that page */

#if defined(__x86_64__)
typedef struct user_regs_struct regs_t;
#define MACHINE_AUDIT 0xc000003eU /* AUDIT_ARCH_X86_64 */
#define SYSCALL_BYTES 2
#define HAVE_FAST_CLOCK 1
#define CLONE_CHILD_ARG 3 /* of the call clone */
static inline int regs_get(pid_t t, regs_t *r) { return (int)ptrace(PTRACE_GETREGS, t, 0, r); }
static inline int regs_set(pid_t t, regs_t *r) { return (int)ptrace(PTRACE_SETREGS, t, 0, r); }
static inline long regs_nr(const regs_t *r) { return (long)r->orig_rax; }
static inline void regs_nr_set(pid_t t, regs_t *r, long nr) { (void)t; r->orig_rax = (unsigned long long)nr; }
static inline int64_t regs_result(const regs_t *r) { return (int64_t)r->rax; }
static inline void regs_result_set(regs_t *r, int64_t v) { r->rax = (unsigned long long)v; }
static inline uint64_t regs_pc(const regs_t *r) { return r->rip; }
static inline void regs_pc_set(regs_t *r, uint64_t v) { r->rip = v; }
static inline uint64_t regs_sp(const regs_t *r) { return r->rsp; }
static inline uint64_t regs_arg(const regs_t *r, int i) {
  switch (i) {
  case 0: return r->rdi;
  case 1: return r->rsi;
  case 2: return r->rdx;
  case 3: return r->r10;
  case 4: return r->r8;
  default: return r->r9;
  }
}
static inline void regs_arg_set(regs_t *r, int i, uint64_t v) {
  switch (i) {
  case 0: r->rdi = v; break;
  case 1: r->rsi = v; break;
  case 2: r->rdx = v; break;
  case 3: r->r10 = v; break;
  case 4: r->r8 = v; break;
  default: r->r9 = v;
  }
}
/* Makes the thread run the call again that it has just left. */
static inline void regs_rewind(regs_t *r, const regs_t *entry) {
  *r = *entry;
  r->rax = entry->orig_rax;
  r->rip -= SYSCALL_BYTES;
}
/* Makes a thread that stands at the return of a call run another one. */
static inline void regs_call(pid_t t, regs_t *r, uint64_t at, long nr) {
  (void)t;
  r->rip = at;
  r->rax = (unsigned long long)nr;
  r->orig_rax = (unsigned long long)-1;
}
/* Does what rdtsc, rdtscp or cpuid does, if the thread stands at one; returns its length. The processor is said to have no
 * random numbers (RDRAND, RDSEED), no transactions and no counter that can be trusted: programs then ask the kernel. */
static inline int regs_emulate(regs_t *r, const uint8_t *b, uint64_t now) {
  int n = b[0] == 0x0f && (b[1] == 0x31 || b[1] == 0xa2) ? 2 : b[0] == 0x0f && b[1] == 0x01 && b[2] == 0xf9 ? 3 : 0;
  uint32_t leaf = (uint32_t)r->rax, eax = leaf, ebx = 0, ecx = (uint32_t)r->rcx, edx = 0;
  if (n && b[1] == 0xa2) {
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (leaf == 1) ecx &= ~(1U << 30);
    if (leaf == 7 && !(uint32_t)r->rcx) ebx &= ~(1U << 18 | 1U << 11 | 1U << 4);
    if (leaf == 0x80000007) edx &= ~(1U << 8);
    r->rax = eax; r->rbx = ebx; r->rcx = ecx; r->rdx = edx;
  } else if (n) {
    r->rax = now & 0xffffffff; r->rdx = now >> 32;
    if (n == 3) r->rcx = 0;
  }
  r->rip += (unsigned)n;
  return n;
}

#elif defined(__aarch64__)
typedef struct user_regs_struct regs_aarch64;
typedef struct {
  regs_aarch64 u;
  long nr;
  uint64_t first; /* x0 at entry: the kernel puts the result there */
} regs_t;
#define MACHINE_AUDIT 0xc00000b7U /* AUDIT_ARCH_AARCH64 */
#define SYSCALL_BYTES 4
#define HAVE_FAST_CLOCK 0
#define CLONE_CHILD_ARG 4
#ifndef NT_ARM_SYSTEM_CALL
#define NT_ARM_SYSTEM_CALL 0x404
#endif
static inline int regs_get(pid_t t, regs_t *r) {
  struct iovec v = {&r->u, sizeof r->u};
  int nr = -1;
  if (ptrace(PTRACE_GETREGSET, t, NT_PRSTATUS, &v)) return -1;
  v = (struct iovec){&nr, sizeof nr};
  ptrace(PTRACE_GETREGSET, t, NT_ARM_SYSTEM_CALL, &v);
  r->nr = nr;
  r->first = r->u.regs[0];
  return 0;
}
static inline int regs_set(pid_t t, regs_t *r) {
  struct iovec v = {&r->u, sizeof r->u};
  return (int)ptrace(PTRACE_SETREGSET, t, NT_PRSTATUS, &v);
}
static inline long regs_nr(const regs_t *r) { return r->nr; }
static inline void regs_nr_set(pid_t t, regs_t *r, long nr) {
  int n = (int)nr;
  struct iovec v = {&n, sizeof n};
  ptrace(PTRACE_SETREGSET, t, NT_ARM_SYSTEM_CALL, &v);
  r->nr = nr;
}
static inline int64_t regs_result(const regs_t *r) { return (int64_t)r->u.regs[0]; }
static inline void regs_result_set(regs_t *r, int64_t v) { r->u.regs[0] = (uint64_t)v; }
static inline uint64_t regs_pc(const regs_t *r) { return r->u.pc; }
static inline void regs_pc_set(regs_t *r, uint64_t v) { r->u.pc = v; }
static inline uint64_t regs_sp(const regs_t *r) { return r->u.sp; }
static inline uint64_t regs_arg(const regs_t *r, int i) { return i ? r->u.regs[i] : r->first; }
static inline void regs_arg_set(regs_t *r, int i, uint64_t v) {
  r->u.regs[i] = v;
  if (!i) r->first = v;
}
static inline void regs_rewind(regs_t *r, const regs_t *entry) {
  *r = *entry;
  r->u.regs[0] = entry->first;
  r->u.pc -= SYSCALL_BYTES;
}
static inline void regs_call(pid_t t, regs_t *r, uint64_t at, long nr) {
  (void)t;
  r->u.pc = at;
  r->u.regs[8] = (uint64_t)nr;
}
static inline int regs_emulate(regs_t *r, const uint8_t *b, uint64_t now) { return (void)r, (void)b, (void)now, 0; }
/* Calls that this processor never had. */
enum { SYS_poll = -100, SYS_select, SYS_epoll_wait, SYS_pause, SYS_alarm, SYS_time, SYS_signalfd };
#else
#error "the clock supervisor knows x86_64 and aarch64"
#endif

#if HAVE_FAST_CLOCK
/* Position-dependent code that every process finds at PAGE_AT + PAGE_CODE. It reads and moves the time without a stop;
 * each 1024th reading is a real call, so that a thread that spins on the clock hands over. Layout of the page: world.h.
 * fast_step leaves the page in r8 and the new monotonic time in rax, or sets the zero flag: then make a real call. Masks:
 * 0x8f3 are the clocks 0 1 4 5 6 7 11 that we know, 0x821 those of them that are wall clocks. */
extern const char fast_clock[], fast_gettime[], fast_timeofday[], fast_time[], fast_getcpu[], fast_getrandom[], fast_end[];
#define FAST_CLOCK_CODE                                                                                                \
  __asm__(".pushsection .rodata\n.globl fast_clock, fast_gettime, fast_timeofday, fast_time, fast_getcpu, fast_getrandom, fast_end\n" \
          "fast_clock: movabs $0x6f0000000000, %r8\n cmpl $0, 24(%r8)\n jne 1f\n"                                      \
          " mov 16(%r8), %rcx\n inc %rcx\n mov %rcx, 16(%r8)\n test $1023, %ecx\n jz 1f\n"                             \
          " mov 32(%r8), %rax\n add (%r8), %rax\n mov %rax, (%r8)\n or $1, %ecx\n ret\n"                               \
          "1: xor %ecx, %ecx\n ret\n"                                                                                  \
          "fast_wall: add 8(%r8), %rax\n" /* rax: seconds, rdx: nanoseconds */                                         \
          "fast_split: xor %edx, %edx\n mov $1000000000, %ecx\n div %rcx\n ret\n"                                      \
          "fast_gettime: cmp $11, %edi\n ja 9f\n mov $0x8f3, %ecx\n bt %edi, %ecx\n jnc 9f\n call fast_clock\n jz 9f\n" \
          " mov $0x821, %ecx\n bt %edi, %ecx\n jnc 2f\n add 8(%r8), %rax\n"                                            \
          "2: call fast_split\n mov %rax, (%rsi)\n mov %rdx, 8(%rsi)\n xor %eax, %eax\n ret\n"                         \
          "9: mov $228, %eax\n syscall\n ret\n"                                                                        \
          "fast_timeofday: test %rdi, %rdi\n jz 9f\n call fast_clock\n jz 9f\n call fast_wall\n mov %rax, (%rdi)\n"    \
          " mov %rdx, %rax\n xor %edx, %edx\n mov $1000, %ecx\n div %rcx\n mov %rax, 8(%rdi)\n xor %eax, %eax\n"       \
          " test %rsi, %rsi\n jz 3f\n movq $0, (%rsi)\n3: ret\n"                                                       \
          "9: mov $96, %eax\n syscall\n ret\n"                                                                         \
          "fast_time: call fast_clock\n jz 9f\n call fast_wall\n test %rdi, %rdi\n jz 4f\n mov %rax, (%rdi)\n4: ret\n" \
          "9: mov $201, %eax\n syscall\n ret\n"                                                                        \
          "fast_getcpu: test %rdi, %rdi\n jz 5f\n movl $0, (%rdi)\n5: test %rsi, %rsi\n jz 6f\n movl $0, (%rsi)\n"     \
          "6: xor %eax, %eax\n ret\n"                                                                                  \
          "fast_getrandom: mov $-38, %rax\n ret\n" /* ENOSYS: the library makes the real call */                       \
          "fast_end: .popsection\n")
#endif
#endif
