/*
 * To be loaded before the C library: at SIGUSR1 the program tries what the sandbox forbids, as an attacker would who
 * runs code in it, and adds a line "NAME ERRNO" for each call to the file TRY_FILE. Where nothing forbids the calls
 * they
 * do no harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

static int results = -1;
static const char *const none[] = {NULL};
static const char nowhere[] = "/nonexistent/file";

static void
tell(const char *name, long rc)
{
	char line[64];
	int n = snprintf(line, sizeof line, "%s %d\n", name, rc < 0 ? errno : 0);

	if (write(results, line, (size_t)n) != n)
		abort();
}

#define TRY(call, ...) tell(#call, syscall(SYS_##call, __VA_ARGS__))
#define TRY_AS(name, call, ...) tell(name, syscall(SYS_##call, __VA_ARGS__))

/* A process that comes into being ends at once, whatever it shares with this one. */
static void
try_processes(void)
{
	long pid;

	TRY(execve, nowhere, none, none);
	TRY(execveat, AT_FDCWD, nowhere, none, none, 0);
#ifdef SYS_fork
	if ((pid = syscall(SYS_fork)) == 0)
		syscall(SYS_exit_group, 0);
	tell("fork", pid);
#endif
	if ((pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) == 0)
		syscall(SYS_exit_group, 0);
	tell("clone", pid);
	TRY(unshare, CLONE_FILES);
	TRY(setns, -1, 0);
	TRY(ptrace, PTRACE_PEEKDATA, -1, 0, 0);
	TRY(process_vm_readv, getpid(), NULL, 0, NULL, 0, 0);
	TRY(process_vm_writev, getpid(), NULL, 0, NULL, 0, 0);
	TRY(kill, getppid(), 0);
	TRY_AS("tgkill-others", tgkill, getppid(), getppid(), 0);
	TRY(tkill, getppid(), 0);
	TRY(rt_sigqueueinfo, getppid(), 0, NULL);
	TRY(pidfd_open, getppid(), 0);
	TRY(prctl, 0, 0, 0, 0, 0);
	TRY(setpriority, 0, 0, 0);
	TRY_AS("prlimit64-of-others", prlimit64, getppid(), 0, NULL, NULL);
	TRY(sched_setaffinity, 0, 0, NULL);
}

static void
try_sockets(void)
{
	static const int families[] = {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK};
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/file"};
	char name[32];
	int pair[2];

	for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
		snprintf(name, sizeof name, "socket-%d", families[i]);
		tell(name, syscall(SYS_socket, families[i], SOCK_STREAM, 0));
	}
	TRY_AS("socket-unix-stream", socket, AF_UNIX, SOCK_STREAM, 0);
	TRY(socketpair, AF_UNIX, SOCK_STREAM, 0, pair);
	TRY(connect, -1, &address, sizeof address);
	TRY(bind, -1, &address, sizeof address);
	TRY(listen, -1, 1);
}

static void
try_files(void)
{
	TRY(fchmod, -1, 0600);
	TRY(fchmodat, AT_FDCWD, nowhere, 0600, 0);
	TRY(fchown, -1, -1, -1);
	TRY(fchownat, AT_FDCWD, nowhere, -1, -1, 0);
	TRY(linkat, AT_FDCWD, nowhere, AT_FDCWD, nowhere, 0);
	TRY(symlinkat, nowhere, AT_FDCWD, nowhere);
	TRY(mkdirat, AT_FDCWD, nowhere, 0700);
	TRY(mknodat, AT_FDCWD, nowhere, 0600, 0);
	TRY(truncate, nowhere, 0);
	TRY(utimensat, AT_FDCWD, nowhere, NULL, 0);
	TRY(setxattr, nowhere, "user.x", "", 0, 0);
	TRY(chdir, nowhere);
	TRY(memfd_create, "x", 0);
	TRY(openat2, AT_FDCWD, nowhere, NULL, 0);
	TRY(name_to_handle_at, AT_FDCWD, nowhere, NULL, NULL, 0);
	TRY_AS("open-set-id", openat, AT_FDCWD, nowhere, O_WRONLY | O_CREAT, 04700);
	TRY_AS("ioctl-TIOCSTI", ioctl, -1, TIOCSTI, "x");
	TRY_AS("fcntl-F_SETOWN", fcntl, -1, F_SETOWN, 1);
}

/* Only where the daemon has nothing to write. */
static void
try_writing(void)
{
	TRY_AS("open-to-write", openat, AT_FDCWD, nowhere, O_WRONLY, 0);
	TRY_AS("open-to-create", openat, AT_FDCWD, nowhere, O_RDONLY | O_CREAT, 0600);
	TRY_AS("open-to-cut", openat, AT_FDCWD, nowhere, O_RDONLY | O_TRUNC, 0);
	TRY(renameat, AT_FDCWD, nowhere, AT_FDCWD, nowhere);
	TRY(renameat2, AT_FDCWD, nowhere, AT_FDCWD, nowhere, 0);
	TRY(unlinkat, AT_FDCWD, nowhere, 0);
	TRY(accept4, -1, NULL, NULL, 0);
	TRY_AS("socket-unix-datagram", socket, AF_UNIX, SOCK_DGRAM, 0);
}

static void
try_memory(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TRY_AS("mmap-executable", mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TRY_AS("mprotect-executable", mprotect, p, 4096, PROT_READ | PROT_EXEC);
	TRY_AS("pkey_mprotect-executable", pkey_mprotect, p, 4096, PROT_READ | PROT_EXEC, -1);
	TRY(remap_file_pages, NULL, 0, 0, 0, 0);
	TRY(shmget, 1, 4096, 0);
	TRY(userfaultfd, 0x10000000);
	TRY(process_madvise, -1, NULL, 0, 0, 0);
	munmap(p, 4096);
}

static void
try_kernel(void)
{
	TRY(mount, (char *)1, nowhere, (char *)1, 0, NULL);
	TRY(umount2, nowhere, 0);
	TRY(chroot, nowhere);
	TRY(pivot_root, nowhere, nowhere);
	TRY(setuid, getuid());
	TRY(setgid, getgid());
	TRY(setresuid, -1, -1, -1);
	TRY(setresgid, -1, -1, -1);
	TRY(setgroups, -1, NULL);
	TRY(setfsuid, -1);
	TRY(capset, NULL, NULL);
	TRY(personality, 0xffffffff);
	TRY(io_uring_setup, 0, NULL);
	TRY(io_setup, 0, NULL);
	TRY(bpf, -1, NULL, 0);
	TRY(perf_event_open, NULL, 0, -1, -1, 0);
	TRY(keyctl, 0, -4, 0, 0, 0);
	TRY(add_key, NULL, NULL, NULL, 0, 0);
	TRY(init_module, NULL, 0, NULL);
	TRY(finit_module, -1, NULL, 0);
	TRY(delete_module, NULL, 0);
	TRY(kexec_load, 0, 0, NULL, -1);
	TRY(open_by_handle_at, -1, NULL, 0);
	TRY(reboot, 0, 0, 0, NULL);
	TRY(swapon, nowhere, 0);
	TRY(sethostname, NULL, -1);
	TRY(settimeofday, (void *)1, NULL);
	TRY(clock_settime, -1, NULL);
	TRY(syslog, -1, NULL, 0);
	TRY(quotactl, -1, NULL, 0, NULL);
	TRY(seccomp, -1, 0, NULL);
}

/* Calls that newer processors do not have, and those of another architecture. */
static void
try_old(void)
{
#ifdef __x86_64__
	TRY(chmod, nowhere, 0600);
	TRY(chown, nowhere, -1, -1);
	TRY(link, nowhere, nowhere);
	TRY(symlink, nowhere, nowhere);
	TRY(mkdir, nowhere, 0700);
	TRY(rmdir, nowhere);
	TRY(mknod, nowhere, 0600, 0);
	TRY(open, nowhere, O_RDONLY, 0);
	TRY(creat, nowhere, 0600);
	tell("x32-getpid", syscall(0x40000000 | SYS_getpid));
#endif
}

static void
on_signal(int number)
{
	(void)number;
	try_processes();
	try_sockets();
	try_files();
	if (getenv("TRY_WRITING") != NULL)
		try_writing();
	try_memory();
	try_kernel();
	try_old();
	tell("done", 0);
}

__attribute__((constructor)) static void
prepare(void)
{
	struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	const char *file = getenv("TRY_FILE");

	if (file == NULL)
		return;
	results = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	sigaction(SIGUSR1, &a, NULL);
}
