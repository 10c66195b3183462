/* fork: pages are copied when either side writes; some ranges are not for the child.
 *
 * usage: fork DIRECTORY [child]: with `child` it is the child that goes on, and the parent that waits.
 */
#include "phase.h"
#include <sys/wait.h>

static void change(char *memory, char *kept) {
    for (int round = 0; round < 5; round++) {
        write_pages(memory, 10 * MIB, 2);
        phase();
        write_pages(memory + 10 * MIB, 4 * MIB, 1);
        phase();
        CHECK(madvise(memory + 6 * MIB, 6 * MIB, MADV_DONTNEED) == 0);
        read_pages(kept, 2 * MIB, 1);
        phase();
    }
}

int main(int count, char **arguments) {
    int child_goes_on = count == 3 && strcmp(arguments[2], "child") == 0;
    char *memory = fresh(16 * MIB), *not_for_child = fresh(4 * MIB), *wiped = fresh(4 * MIB), *kept = fresh(2 * MIB);
    write_pages(memory, 12 * MIB, 1);
    write_pages(not_for_child, 4 * MIB, 1);
    write_pages(wiped, 4 * MIB, 1);
    write_pages(kept, 2 * MIB, 1);
    CHECK(madvise(not_for_child, 4 * MIB, MADV_DONTFORK) == 0);
    CHECK(madvise(wiped, 4 * MIB, MADV_WIPEONFORK) == 0);
    phase();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (child_goes_on) {
            phase();
            write_pages(wiped, MIB, 1);
            change(memory, kept);
        } else {
            write_pages(memory, 4 * MIB, 1);
            phase();
            write_pages(kept, 2 * MIB, 1);
        }
        return 0;
    }
    if (!child_goes_on) {
        change(memory, kept);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return status != 0;
}
