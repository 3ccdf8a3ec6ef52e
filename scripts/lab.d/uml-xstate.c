/*
 * Lets user-mode Linux run on processors with more register state than it knows.
 *
 * Linux 6.1 in user mode saves and restores the extended registers of its processes in a buffer of
 * fixed size. Where the processor has more (AMX), the host refuses to restore from it, and the guest
 * ends with "ptrace set fp regs failed, errno = 14". This completes what is too short with what the
 * process has now; the guest has no use for those registers.
 *
 * Preloaded into linux.uml by topology.sh, where it is needed.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long call(long request, long pid, void *address, void *data)
{
    return syscall(SYS_ptrace, request, pid, address, data);
}

long ptrace(enum __ptrace_request request, ...)
{
    static __thread _Alignas(64) char state[1 << 16];
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, int);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
        struct iovec *known = data, all = {state, sizeof state};
        if (call(PTRACE_GETREGSET, pid, address, &all) == 0 && all.iov_len > known->iov_len) {
            memcpy(state, known->iov_base, known->iov_len);
            return call(request, pid, address, &all);
        }
    }
    /* These return what they read, and the system call does not. */
    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
        long word = 0;
        if (call(request, pid, address, &word) < 0)
            return -1;
        errno = 0;
        return word;
    }
    return call(request, pid, address, data);
}
