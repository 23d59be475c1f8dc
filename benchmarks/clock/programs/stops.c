// A hundred thousand calls that are stopped and do nothing: what a stop costs.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
  char byte;
  int fd = open("/dev/null", O_RDONLY), ends = 0;
  for (int i = 0; i < 100000; i++) ends += read(fd, &byte, 1) == 0;
  printf("%d\n", ends);
}
