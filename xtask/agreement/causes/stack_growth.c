/* Stacks grow by a touch below them; nothing gives them back. */
#include "phase.h"

static __attribute__((noinline)) int deep(int levels) {
    volatile char frame[64 * 1024];
    for (size_t at = 0; at < sizeof frame; at += PAGE) {
        frame[at] = (char)levels;
    }
    if (levels % 7 == 0) {
        phase();
    }
    return levels ? deep(levels - 1) + frame[0] : 0;
}

int main(void) {
    deep(90);
    phase();
    return 0;
}
