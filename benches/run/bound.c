/* The bound of a tracer that uses ptrace and seccomp: the smallest one. It stops a program at each open
 * and close and continues it, with the tracer and the program on one processor.
 *
 *     bound [-a | -i | -s] COMMAND [ARGUMENTS...]
 *
 * | option | at each call                                                                  |
 * |--------|-------------------------------------------------------------------------------|
 * | -a     | the filter answers RET_ALLOW: the cost of the filter without a stop           |
 * |        | waitpid and PTRACE_CONT: the two switches                                     |
 * | -i     | the number of the call and its arguments, too, which a useful tracer reads    |
 * | -s     | and 512 bytes of the stack, which is the least that tells one stack from another |
 *
 * Linux 5.3 or later on x86-64. */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(125);
}

static void filter(unsigned answer)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, answer),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        fail("seccomp");
}

static void examine(pid_t task, int reads_stack)
{
    struct __ptrace_syscall_info call;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task, sizeof call, &call) < 0 || !reads_stack)
        return;
    static char stack[512];
    struct iovec to = {stack, sizeof stack};
    struct iovec from = {(void *)call.stack_pointer, sizeof stack};
    process_vm_readv(task, &to, 1, &from, 1, 0);
}

int main(int argc, char **argv)
{
    int reads_call = 0, reads_stack = 0, option;
    unsigned answer = SECCOMP_RET_TRACE;
    while ((option = getopt(argc, argv, "+ais")) != -1)
        switch (option) {
        case 'a': answer = SECCOMP_RET_ALLOW; break;
        case 's': reads_stack = 1; /* fall through */
        case 'i': reads_call = 1; break;
        default: return 2;
        }
    if (optind == argc)
        return 2;
    /* Otherwise each stop also prepares a signal, which is ignored. */
    struct sigaction quiet = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGCHLD, &quiet, NULL);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one))
        fail("sched_setaffinity");
    int go[2];
    if (pipe(go))
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        char byte;
        close(go[1]);
        if (read(go[0], &byte, 1) != 1)
            _exit(125);
        filter(answer);
        execvp(argv[optind], argv + optind);
        _exit(127);
    }
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP;
    if (ptrace(PTRACE_SEIZE, child, 0, options))
        fail("PTRACE_SEIZE");
    if (write(go[1], "", 1) != 1)
        fail("write");
    for (;;) {
        int status;
        pid_t task = waitpid(-1, &status, __WALL);
        if (task < 0)
            fail("waitpid");
        if (!WIFSTOPPED(status))
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        int signal = 0;
        if (status >> 16 == PTRACE_EVENT_SECCOMP) {
            if (reads_call)
                examine(task, reads_stack);
        } else if (status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP) {
            signal = WSTOPSIG(status);
        }
        ptrace(PTRACE_CONT, task, 0, signal);
    }
}
