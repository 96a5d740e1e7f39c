/**
 * The C library through koffi: the one file that names foreign functions. Addresses travel as
 * numbers (user space ends below 2^47), so that a call allocates nothing. Everything here returns
 * what Linux returns, or the negated errno.
 */
import { arch } from "node:process";
import koffi from "koffi";

const library = koffi.load(null);

type Scalar = number | string;
type Native = (...args: Scalar[]) => number;

function bind(declaration: string): Native {
  const native = library.func(declaration) as unknown as Native;
  return (...args) => {
    const result = native(...args);
    return result < 0 ? -koffi.errno() : result;
  };
}

/** `bind` for the calls of the hot path, where rest parameters would cost an array a call. */
function bind3(declaration: string): (a: number, b: number, c: number) => number {
  const native = library.func(declaration) as unknown as (
    a: number,
    b: number,
    c: number,
  ) => number;
  return (a, b, c) => {
    const result = native(a, b, c);
    return result < 0 ? -koffi.errno() : result;
  };
}

function bind4(declaration: string): (a: number, b: number, c: number, d: number) => number {
  const native = library.func(declaration) as unknown as (
    a: number,
    b: number,
    c: number,
    d: number,
  ) => number;
  return (a, b, c, d) => {
    const result = native(a, b, c, d);
    return result < 0 ? -koffi.errno() : result;
  };
}

export const recvmsg = bind3("intptr_t recvmsg(int fd, uintptr_t header, int flags)");
export const sendmsg = bind3("intptr_t sendmsg(int fd, uintptr_t header, int flags)");
export const send = bind4("intptr_t send(int fd, uintptr_t data, size_t length, int flags)");
export const read = bind3("intptr_t read(int fd, uintptr_t data, size_t length)");
export const write = bind3("intptr_t write(int fd, uintptr_t data, size_t length)");
export const pread = bind4("intptr_t pread(int fd, uintptr_t data, size_t length, int64_t offset)");
export const pwrite = bind4(
  "intptr_t pwrite(int fd, uintptr_t data, size_t length, int64_t offset)",
);
export const poll = bind3("int poll(uintptr_t fds, unsigned long count, int timeoutMs)");
export const close = bind("int close(int fd)");
export const socket = bind("int socket(int domain, int type, int protocol)");
export const socketpair = bind("int socketpair(int domain, int type, int protocol, uintptr_t fds)");
export const bindSocket = bind("int bind(int fd, uintptr_t address, unsigned int length)");
export const connect = bind("int connect(int fd, uintptr_t address, unsigned int length)");
export const listen = bind("int listen(int fd, int backlog)");
export const accept4 = bind("int accept4(int fd, uintptr_t address, uintptr_t length, int flags)");
export const shutdown = bind("int shutdown(int fd, int how)");
export const setsockopt = bind(
  "int setsockopt(int fd, int level, int name, uintptr_t value, unsigned int length)",
);
export const getsockopt = bind(
  "int getsockopt(int fd, int level, int name, uintptr_t value, uintptr_t length)",
);
export const fcntl = bind3("int fcntl(int fd, int command, long argument)");
export const memfdCreate = bind("int memfd_create(const char *name, unsigned int flags)");
export const ftruncate = bind("int ftruncate(int fd, int64_t length)");
export const eventfd = bind("int eventfd(unsigned int initial, int flags)");
export const statx = bind(
  "int statx(int directory, const char *path, int flags, unsigned int mask, uintptr_t buffer)",
);
export const fstatfs = bind("int fstatfs(int fd, uintptr_t buffer)");
export const madvise = bind3("int madvise(uintptr_t address, size_t length, int advice)");
export const munmap = bind("int munmap(uintptr_t address, size_t length)");
export const pipe2 = bind("int pipe2(uintptr_t fds, int flags)");
export const vmsplice = bind4(
  "intptr_t vmsplice(int fd, uintptr_t pieces, size_t count, unsigned int flags)",
);
export const sigaction = bind("int sigaction(int signal, uintptr_t action, uintptr_t old)");

const spliceNative = library.func(
  "intptr_t splice(int from, uintptr_t fromAt, int to, uintptr_t toAt, size_t n, uint flags)",
) as unknown as Native;

/** Moves bytes out of a pipe; how many, or a negated errno. */
export function splice(pipe: number, to: number, length: number): number {
  const result = spliceNative(pipe, 0, to, 0, length, 0);
  return result < 0 ? -koffi.errno() : result;
}

const mmapNative = library.func(
  "intptr_t mmap(uintptr_t address, size_t length, int protection, int flags, int fd, int64_t at)",
) as unknown as Native;

/** The mapping's address, or a negated errno. */
export function mmap(
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  const result = mmapNative(address, length, protection, flags, fd, offset);
  return result === -1 ? -koffi.errno() : result;
}

/** System call numbers of the two calls that older C libraries have no function for. */
const syscalls: Partial<Record<NodeJS.Architecture, { gettid: number; tgkill: number }>> = {
  x64: { gettid: 186, tgkill: 234 },
  arm64: { gettid: 178, tgkill: 131 },
};
const numbers = syscalls[arch];
const syscall = bind("long syscall(long number, long a, long b, long c)");

/** The calling thread's id. */
export function gettid(): number {
  if (numbers === undefined) throw new Error(`vfio-ferry runs on x64 and arm64, not on ${arch}`);
  return syscall(numbers.gettid, 0, 0, 0);
}

/** Sends a signal to one thread of this process. */
export function tgkill(process: number, thread: number, signal: number): number {
  return syscall(numbers?.tgkill ?? -1, process, thread, signal);
}

const dlsym = library.func("uintptr_t dlsym(intptr_t handle, const char *name)") as unknown as (
  handle: number,
  name: string,
) => number;

/** The address of a C library function, for use as a signal handler. */
export function symbolAddress(name: string): number {
  return dlsym(0, name);
}

const exitNow = library.func("void _exit(int code)") as unknown as (code: number) => void;

/** Ends the process at once, whatever its threads are blocked in; nothing is flushed. */
export function exitProcess(code: number): never {
  exitNow(code);
  throw new Error("unreachable: _exit returned");
}

const pollNative = library.func("int poll(uintptr_t fds, unsigned long count, int timeoutMs)");

/** `poll` on a thread of the pool, so that the event loop goes on. */
export function pollAsync(fds: number, count: number, timeoutMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    pollNative.async(fds, count, timeoutMs, (error: Error | null, result: number) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}

/** The memory at `address` as bytes. It must stay mapped for as long as the view is reachable. */
export function viewOf(address: number, length: number): ArrayBuffer {
  return koffi.view(BigInt(address), length) as ArrayBuffer;
}
