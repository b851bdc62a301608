/* Hides features of the processor from a process: CPUID is made to trap, and answered with bits cleared.
 *
 * Preloaded by as_processor.sh, which says how to use it. Linux on x86-64, on a processor with CPUID faulting.
 * Programs that look into /proc/cpuinfo still see all; numeric libraries ask CPUID. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7: AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL in EBX; VBMI, VBMI2, BITALG, VPOPCNTDQ in ECX. */
#define AVX512_EBX (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define AVX512_ECX (BIT(1) | BIT(6) | BIT(12) | BIT(14))
#define VNNI_ECX BIT(11)
/* AVX512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16, and AMX. */
#define LATER_EDX (BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25))
/* Leaf 7, part 1: AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; all of EDX (AVX-VNNI-INT8, AVX10, ...). */
#define LATER_EAX (BIT(4) | BIT(5) | BIT(21) | BIT(23))

static int keep_avx512;
static struct sigaction theirs; /* what the program itself would do on SIGSEGV */
static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);

static void set_cpuid(int allowed) { syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed); }

static void pass_on(int number, siginfo_t *info, void *context) {
    if (theirs.sa_flags & SA_SIGINFO) {
        theirs.sa_sigaction(number, info, context);
    } else if (theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN) {
        theirs.sa_handler(number);
    } else {
        struct sigaction plain = {.sa_handler = SIG_DFL};
        real_sigaction(SIGSEGV, &plain, NULL);
    }
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)registers[REG_RIP];
    if (info->si_code != SI_KERNEL || at[0] != 0x0f || at[1] != 0xa2) {
        pass_on(number, info, context);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX];
    uint32_t a = leaf, b, c = part, d;
    set_cpuid(1);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    set_cpuid(0);
    if (leaf == 7 && part == 0) {
        c &= ~VNNI_ECX;
        d &= ~LATER_EDX;
        if (!keep_avx512) {
            b &= ~AVX512_EBX;
            c &= ~AVX512_ECX;
        }
    } else if (leaf == 7 && part == 1) {
        a &= ~LATER_EAX;
        d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

/* A program's own handler of SIGSEGV (Python's faulthandler) must not take this one's place. */
int sigaction(int number, const struct sigaction *wanted, struct sigaction *before) {
    if (!real_sigaction) real_sigaction = dlsym(RTLD_NEXT, "sigaction");
    if (number != SIGSEGV) return real_sigaction(number, wanted, before);
    struct sigaction was = theirs;
    if (wanted) theirs = *wanted;
    if (before) *before = was;
    return 0;
}

__attribute__((constructor)) static void start(void) {
    const char *level = getenv("AS_PROCESSOR");
    if (!real_sigaction) real_sigaction = dlsym(RTLD_NEXT, "sigaction");
    keep_avx512 = level && strcmp(level, "avx512") == 0;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    real_sigaction(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) != 0) {
        fputs("as_processor: this processor cannot make CPUID trap\n", stderr);
        _exit(77);
    }
}
