// A static program.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    char *made = malloc(100000);
    memset(made, 1, 100000);
    // The recorder finds programs without the tracer by looking.
    usleep(300000);
    return write(1, "still\n", 6) == 6 ? 3 : 1;
}
