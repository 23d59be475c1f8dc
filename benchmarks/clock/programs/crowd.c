// Twenty processes of 25 threads, each of which sleeps a hundred times: more than ten virtual hours.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *sleeper(void *seed) {
  unsigned state = (unsigned)(long)seed;
  for (int i = 0; i < 100; i++) usleep(1000000 + (useconds_t)rand_r(&state) % 720000000);
  return NULL;
}

int main(void) {
  time_t begun = time(NULL);
  for (long process = 0; process < 20; process++) {
    if (fork()) continue;
    pthread_t threads[25];
    for (long i = 0; i < 25; i++) pthread_create(&threads[i], NULL, sleeper, (void *)(process * 100 + i));
    for (int i = 0; i < 25; i++) pthread_join(threads[i], NULL);
    return 0;
  }
  while (wait(NULL) > 0) {}
  printf("%ld\n", (long)(time(NULL) - begun));
}
