// SPDX-License-Identifier: MIT OR Apache-2.0
// Runs a program with a system call denied, to simulate kernels without BPF or AF_XDP and
// containers' seccomp profiles.
//
//   deny SYSCALL FIRST ERRNO PROGRAM [ARGUMENT]...
//
// The first three are numbers. FIRST is the call's first argument, or -1 for any. Only for x86-64,
// which the guests are.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 5) {
        fputs("deny SYSCALL FIRST ERRNO PROGRAM [ARGUMENT]...\n", stderr);
        return 2;
    }
    unsigned int syscall_number = atoi(argv[1]), error = atoi(argv[3]);
    int first = atoi(argv[2]);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, syscall_number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 0, first == -1 ? 0 : 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("deny: prctl");
        return 1;
    }
    execvp(argv[4], argv + 4);
    perror(argv[4]);
    return 1;
}
