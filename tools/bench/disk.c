/*
 * The floor of a durable write: what the disk and its file system take, without an agent. disk.ts builds and runs it.
 *
 *   disk ROUNDS BYTES DIRECTORY...
 *
 * A thread for each directory replaces metadata.json there, again and again and all at the same time, by the calls
 * that a file needs to survive a loss of power: a new file is written and synced, renamed, and its directory
 * synced. Each has another value, which whoever watches the directory has to see.
 *
 * Prints one line of JSON; latencies, and processor time of a write, in microseconds. Exit status 1: something failed, the reason is on stderr.
 */
#define	_GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "measure.h"

#define	PATH_BYTES	4096
/* The JSON with one value. */
#define	BYTES_MIN	128

typedef struct writer {
	pthread_t thread;
	const char *directory;
	unsigned *latencies;
} writer_t;

static unsigned rounds;
static size_t length;
static pthread_barrier_t start;

static double
cpu(void)
{
	struct rusage used;

	(void) getrusage(RUSAGE_SELF, &used);
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec +
	    (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
}

static void
synced(int fd)
{
	if (fd < 0 || fsync(fd) != 0 || close(fd) != 0)
		die("fsync");
}

static void
replace(const char *directory, unsigned value)
{
	char path[PATH_BYTES + 32], temp[PATH_BYTES + 32];
	char *text = malloc(length);
	int fd, used;

	if (text == NULL)
		die("memory");
	used = snprintf(text, length, "{\"customer_metadata\":{\"k\":\"%010u\"},\"internal_metadata\":{}}", value);
	(void) memset(text + used, ' ', length - (size_t)used);
	(void) snprintf(path, sizeof (path), "%s/metadata.json", directory);
	(void) snprintf(temp, sizeof (temp), "%s/.metadata.json.bench", directory);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, length) != (ssize_t)length)
		die(temp);
	synced(fd);
	if (rename(temp, path) != 0)
		die(path);
	synced(open(directory, O_RDONLY | O_CLOEXEC));
	free(text);
}

static void *
write_all(void *arg)
{
	writer_t *writer = arg;
	unsigned i;
	double began;

	(void) pthread_barrier_wait(&start);
	for (i = 0; i < rounds; i++) {
		began = now();
		replace(writer->directory, i + 1);
		writer->latencies[i] = (now() - began) * 1e6;
	}
	return (NULL);
}

static int
by_size(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return ((x > y) - (x < y));
}

int
main(int argc, char **argv)
{
	unsigned count, i, *all;
	writer_t *writers;
	size_t total;
	double before;

	if (argc < 4 || (length = atoi(argv[2])) < BYTES_MIN) {
		(void) fprintf(stderr, "disk ROUNDS BYTES DIRECTORY...\n");
		return (2);
	}
	rounds = atoi(argv[1]);
	count = argc - 3;
	total = (size_t)count * rounds;
	writers = calloc(count, sizeof (*writers));
	all = calloc(total, sizeof (*all));
	if (total == 0 || writers == NULL || all == NULL)
		die("start");
	if (pthread_barrier_init(&start, NULL, count) != 0)
		die("barrier");
	for (i = 0; i < count; i++) {
		writers[i].latencies = all + (size_t)i * rounds;
		writers[i].directory = argv[3 + i];
		/* Already there when it is measured, as a zone's is. */
		replace(writers[i].directory, 0);
	}
	before = cpu();
	for (i = 0; i < count; i++) {
		if (pthread_create(&writers[i].thread, NULL, write_all, &writers[i]) != 0)
			die("thread");
	}
	for (i = 0; i < count; i++)
		(void) pthread_join(writers[i].thread, NULL);
	qsort(all, total, sizeof (*all), by_size);
	(void) printf("{\"p50_us\":%u,\"p99_us\":%u,\"cpu_us\":%.1f}\n", all[total / 2],
	    all[(total * 99 - 1) / 100], (cpu() - before) * 1e6 / total);
	return (0);
}
