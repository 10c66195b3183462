/* Children that change their copy of the memory, and then execute another program: the parent's pages stay. The call is made
 * past the C library, so that nothing in the process learns of it; and by vfork, where a child's touch is the parent's.
 */
#include "phase.h"
#include <sys/syscall.h>
#include <sys/wait.h>

int main(void) {
    char *memory = fresh(16 * MIB), *shared = fresh(16 * MIB);
    write_pages(memory, 16 * MIB, 1);
    phase();
    for (int round = 0; round < 6; round++) {
        pid_t child = (pid_t)syscall(SYS_fork);
        CHECK(child >= 0);
        if (child == 0) {
            munmap(memory + 4 * MIB, 8 * MIB);
            madvise(memory, 2 * MIB, MADV_DONTNEED);
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        phase();
        child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            for (size_t at = 0; at < 2 * MIB; at += PAGE) {
                ((volatile char *)shared)[(size_t)round * 2 * MIB + at] = 1;
            }
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        phase();
        write_pages(memory, 16 * MIB, 2);
    }
    return 0;
}
