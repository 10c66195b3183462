/* A library whose functions have frames of another size each time it is built (-DFRAME=...), at the same addresses. */
#include <stdlib.h>

static __attribute__((noinline)) void *in_library(size_t size)
{
    volatile char frame[FRAME];
    frame[size % FRAME] = 1;
    void *made = malloc(size);
    frame[(size_t)made % FRAME] = 2;
    return made;
}

void *library_entry(size_t size)
{
    volatile char frame[2 * FRAME];
    frame[size % FRAME] = 1;
    void *made = in_library(size);
    frame[(size_t)made % FRAME] = 2;
    return made;
}
