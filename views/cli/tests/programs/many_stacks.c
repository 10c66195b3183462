/* Allocates once from each of 16,384 call stacks: one for each way through fourteen calls of two functions. */
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))
#define CALLS 14

static void *volatile kept;
static volatile unsigned returned;

static void next(unsigned way, int calls);

NOINLINE static void left(unsigned way, int calls)
{
    next(way, calls);
    returned++;
}

NOINLINE static void right(unsigned way, int calls)
{
    next(way, calls);
    returned++;
}

NOINLINE static void next(unsigned way, int calls)
{
    if (calls == 0)
        kept = malloc(23);
    else if (way & 1)
        left(way >> 1, calls - 1);
    else
        right(way >> 1, calls - 1);
    returned++;
}

int main(void)
{
    for (unsigned way = 0; way < 1u << CALLS; way++)
        next(way, CALLS);
    return returned == 0;
}
