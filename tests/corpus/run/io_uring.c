/* A file that is opened and closed by io_uring, without system calls: the report says that not everything
 * was followed. With `--no-io-uring` the program is refused and takes its other way.
 *
 * run:
 * expect: nothing
 * prints: by io_uring
 * says: io_uring
 * run: --no-io-uring
 * expect: nothing
 * prints: by system calls
 */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring;
static char *rings;
static struct io_uring_sqe *entries;
static struct io_uring_params parameters;

static int submit(struct io_uring_sqe entry) {
    unsigned *tail = (unsigned *)(rings + parameters.sq_off.tail);
    unsigned mask = *(unsigned *)(rings + parameters.sq_off.ring_mask);
    unsigned at = *tail & mask;
    entries[at] = entry;
    ((unsigned *)(rings + parameters.sq_off.array))[at] = at;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return -1;
    unsigned *head = (unsigned *)(rings + parameters.cq_off.head);
    unsigned done = *head & *(unsigned *)(rings + parameters.cq_off.ring_mask);
    int result = ((struct io_uring_cqe *)(rings + parameters.cq_off.cqes))[done].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

int main(void) {
    ring = syscall(SYS_io_uring_setup, 4, &parameters);
    if (ring < 0) {
        printf("by system calls\n");
        return close(open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    size_t size = parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned);
    size_t other = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
    rings = mmap(NULL, size > other ? size : other, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
                 IORING_OFF_SQ_RING);
    entries = mmap(NULL, parameters.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED,
                   ring, IORING_OFF_SQES);
    if (rings == MAP_FAILED || entries == MAP_FAILED)
        return 1;
    struct io_uring_sqe opening = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
                                   .addr = (unsigned long)"/dev/null", .open_flags = O_CLOEXEC};
    int fd = submit(opening);
    struct io_uring_sqe closing = {.opcode = IORING_OP_CLOSE, .fd = fd};
    if (fd < 0 || submit(closing) != 0)
        return 2;
    printf("by io_uring\n");
    return close(ring);
}
