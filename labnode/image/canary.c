// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * canary: a heartbeat that leaves evidence on a disk and on a serial port.
 *
 *   canary DEVICE|auto [INTERVAL_MS|auto [SERIAL]]
 *
 * DEVICE is a block device (or a file) that begins with the header block written by build.py; "auto" waits
 * for one to appear and takes the first by name. INTERVAL_MS is 100, or with "auto" what the machine's SMBIOS
 * says in its family as "pace_ms=N". Every INTERVAL_MS one record of 4096 bytes goes to the next slot of the
 * ring behind the header, with O_DIRECT and O_SYNC. Only when the write has returned is it acknowledged, as one
 * line on SERIAL. So whatever was acknowledged must be found on the disk afterwards: `labnode canary check`
 * compares the two.
 *
 * A write that fails is reported and the same sequence number is tried again: a number is never skipped.
 * After a reboot the sequence goes on behind the newest valid record.
 *
 * The layout below is read by labnode/src/labnode/canary.py too; both change together.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
#define STRIDE 64u
#define HEADER_MAGIC "pvelab-canary-1\n"
#define RECORD_MAGIC 0x59524e43u /* "CNRY" little-endian */
#define DEFAULT_PACE_MS 100u
#define PACE_KEY "pace_ms="
#define BODY_AT 64u
#define BODY_CRC_AT (BLOCK - 4u)

struct header { /* block 0 */
	char magic[16];
	uint32_t block;
	uint32_t slots;
};

struct record { /* little-endian, as the only supported machine is */
	uint32_t magic;
	uint32_t last_latency_us; /* of the write before this one; 0 = none in this boot */
	uint64_t seq;             /* from 1 */
	uint64_t mono_ns;
	uint64_t real_ns;
	unsigned char boot[16];
	uint32_t head_crc; /* over everything above */
};

static uint32_t table[256];
static unsigned char *block;
static unsigned char boot[16];
static char boot_hex[9];
static int serial = -1, torn;
static volatile sig_atomic_t stopping;

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? (c >> 1) ^ 0xEDB88320u : c >> 1;
		table[i] = c;
	}
}

static uint32_t crc32_of(const unsigned char *p, size_t n)
{
	uint32_t c = ~0u;
	while (n--)
		c = table[(c ^ *p++) & 255] ^ (c >> 8);
	return ~c;
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* One line on the serial port. A port that takes nothing for a second loses the line, never the heartbeat. */
static void say(const char *format, ...)
{
	char line[256];
	int at = 0, length;
	va_list args;

	if (serial < 0)
		return;
	if (torn)
		line[at++] = '\n';
	va_start(args, format);
	length = vsnprintf(line + at, sizeof line - (size_t)at, format, args);
	va_end(args);
	length += at;
	for (at = 0; at < length;) {
		ssize_t n = write(serial, line + at, (size_t)(length - at));
		if (n > 0) {
			at += (int)n;
			continue;
		}
		struct pollfd wait = { .fd = serial, .events = POLLOUT };
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			break;
		if (poll(&wait, 1, 1000) == 0)
			break;
	}
	torn = at < length;
}

static void open_serial(const char *path)
{
	struct termios mode;

	serial = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK);
	if (serial < 0)
		return;
	if (tcgetattr(serial, &mode) == 0) {
		mode.c_oflag &= (tcflag_t)~OPOST;
		mode.c_cflag |= CLOCAL;
		tcsetattr(serial, TCSANOW, &mode);
	} else if (errno == EIO) { /* ttyS0 without a port behind it; a plain file says ENOTTY and is fine */
		close(serial);
		serial = -1;
	}
}

static void read_boot_id(void)
{
	char text[64] = "";
	int n = 0, fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);

	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) < 0)
			text[0] = 0;
		close(fd);
	}
	for (const char *p = text; *p && n < 32; p++) {
		int digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : -1;
		if (digit < 0)
			continue;
		boot[n / 2] = (unsigned char)(boot[n / 2] << 4 | digit);
		n++;
	}
	snprintf(boot_hex, sizeof boot_hex, "%02x%02x%02x%02x", boot[0], boot[1], boot[2], boot[3]);
}

static int open_disk(const char *path)
{
	int fd = open(path, O_RDWR | O_DIRECT | O_SYNC);
	if (fd < 0 && errno == EINVAL) /* a plain file on tmpfs, in tests: the disk of a guest takes O_DIRECT */
		fd = open(path, O_RDWR | O_SYNC);
	return fd;
}

/* The sequence number in a slot; 0 when there is no valid record. Reads fail at most as "no record". */
static uint64_t seq_in(int fd, uint32_t slot)
{
	struct record r;

	if (pread(fd, block, BLOCK, (off_t)(slot + 1) * BLOCK) != (ssize_t)BLOCK)
		return 0;
	memcpy(&r, block, sizeof r);
	if (r.magic != RECORD_MAGIC || r.head_crc != crc32_of(block, offsetof(struct record, head_crc)))
		return 0;
	return r.seq;
}

/*
 * The newest sequence number on the disk. Reading the whole ring would cost seconds under emulation, so
 * every 64th slot is looked at, and from the newest of them on every slot, until two strides hold nothing
 * newer: one damaged record does not hide the ones behind it.
 */
static uint64_t newest(int fd, uint32_t slots)
{
	uint64_t best = 0;
	uint32_t at = 0;

	for (uint32_t slot = 0; slot < slots; slot += STRIDE) {
		uint64_t seq = seq_in(fd, slot);
		if (seq > best) {
			best = seq;
			at = slot;
		}
	}
	for (uint32_t step = 0, quiet = 0; step < slots && quiet < 2 * STRIDE; step++, quiet++) {
		uint64_t seq = seq_in(fd, (at + step) % slots);
		if (seq > best) {
			best = seq;
			quiet = 0;
		}
	}
	return best;
}

static uint32_t fill(uint64_t seq, uint32_t last_latency_us)
{
	struct record r = {
		.magic = RECORD_MAGIC,
		.last_latency_us = last_latency_us,
		.seq = seq,
		.mono_ns = now_ns(CLOCK_MONOTONIC),
		.real_ns = now_ns(CLOCK_REALTIME),
	};
	uint32_t noise = (uint32_t)seq * 2654435761u, crc;

	memcpy(r.boot, boot, sizeof boot);
	memset(block, 0, BODY_AT);
	memcpy(block, &r, sizeof r);
	r.head_crc = crc32_of(block, offsetof(struct record, head_crc));
	memcpy(block, &r, sizeof r);
	for (uint32_t at = BODY_AT; at < BODY_CRC_AT; at += 4) { /* no two records share a sector's bytes */
		noise = noise * 1664525u + 1013904223u;
		memcpy(block + at, &noise, 4);
	}
	crc = crc32_of(block, BODY_CRC_AT);
	memcpy(block + BODY_CRC_AT, &crc, 4);
	return crc;
}

static void beat(int *fd, const char *path, uint32_t slots, uint64_t seq, uint64_t pace_ns)
{
	static uint32_t last_latency_us;

	while (!stopping) {
		uint32_t crc = fill(seq, last_latency_us);
		uint64_t begun = now_ns(CLOCK_MONOTONIC);
		ssize_t n = *fd < 0 ? -1 : pwrite(*fd, block, BLOCK, (off_t)(1 + (seq - 1) % slots) * BLOCK);
		int error = n < 0 ? errno : EIO;
		uint64_t done = now_ns(CLOCK_MONOTONIC);

		if (n == (ssize_t)BLOCK) {
			last_latency_us = (uint32_t)((done - begun) / 1000u);
			say("canary ack seq=%llu boot=%s mono_us=%llu real_us=%llu lat_us=%u crc=%08x\n",
			    (unsigned long long)seq, boot_hex, (unsigned long long)(done / 1000u),
			    (unsigned long long)(now_ns(CLOCK_REALTIME) / 1000u), last_latency_us, crc);
			return;
		}
		say("canary error seq=%llu boot=%s mono_us=%llu errno=%d text=%s\n", (unsigned long long)seq,
		    boot_hex, (unsigned long long)(done / 1000u), error, strerror(error));
		if (*fd >= 0)
			close(*fd);
		nanosleep(&(struct timespec){ (time_t)(pace_ns / 1000000000u), (long)(pace_ns % 1000000000u) }, NULL);
		*fd = open_disk(path);
	}
}

static uint32_t slots_of(int fd)
{
	struct header h;

	if (fd < 0 || pread(fd, block, BLOCK, 0) != (ssize_t)BLOCK)
		return 0;
	memcpy(&h, block, sizeof h);
	return memcmp(h.magic, HEADER_MAGIC, sizeof h.magic) == 0 && h.block == BLOCK ? h.slots : 0;
}

/* The first block device by name that carries a canary area, or NULL. */
static const char *scan(void)
{
	static char found[300];
	struct dirent *entry;
	DIR *devices = opendir("/sys/class/block");

	found[0] = 0;
	while (devices && (entry = readdir(devices))) {
		char path[sizeof found];
		int fd;

		snprintf(path, sizeof path, "/dev/%s", entry->d_name);
		if (entry->d_name[0] == '.' || (found[0] && strcmp(path, found) > 0))
			continue;
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (slots_of(fd))
			snprintf(found, sizeof found, "%s", path);
		if (fd >= 0)
			close(fd);
	}
	if (devices)
		closedir(devices);
	return found[0] ? found : NULL;
}

static const char *await_disk(void)
{
	const char *found;

	while (!(found = scan()) && !stopping)
		nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
	return found;
}

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static void run(int fd, const char *path, uint32_t slots, uint64_t pace_ns)
{
	uint64_t seq = newest(fd, slots), next = now_ns(CLOCK_MONOTONIC);

	say("canary start seq=%llu boot=%s device=%s slots=%u pace_ms=%llu\n", (unsigned long long)seq + 1, boot_hex,
	    path, slots, (unsigned long long)(pace_ns / 1000000u));
	while (!stopping) {
		uint64_t now;

		beat(&fd, path, slots, ++seq, pace_ns);
		next += pace_ns;
		now = now_ns(CLOCK_MONOTONIC);
		if (next < now) /* late: go on from here, without catching up in a burst */
			next = now;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME,
				&(struct timespec){ (time_t)(next / 1000000000u), (long)(next % 1000000000u) }, NULL);
	}
	say("canary stop boot=%s\n", boot_hex);
}

/* Of a guest nothing else can be set from outside that its first program could read. */
static uint64_t pace_ms(const char *asked)
{
	char family[128] = "";
	const char *found;
	int fd;

	if (!asked)
		return DEFAULT_PACE_MS;
	if (strcmp(asked, "auto") != 0)
		return strtoull(asked, NULL, 10);
	fd = open("/sys/class/dmi/id/product_family", O_RDONLY);
	if (fd >= 0) {
		if (read(fd, family, sizeof family - 1) < 0)
			family[0] = 0;
		close(fd);
	}
	found = strstr(family, PACE_KEY);
	return found ? strtoull(found + strlen(PACE_KEY), NULL, 10) : DEFAULT_PACE_MS;
}

int main(int argc, char **argv)
{
	struct sigaction stop = { .sa_handler = on_signal };
	uint64_t pace_ns = pace_ms(argc > 2 ? argv[2] : NULL) * 1000000u;
	const char *path = argc > 1 ? argv[1] : NULL;
	uint32_t slots;
	int fd;

	if (!path || !pace_ns || posix_memalign((void **)&block, BLOCK, BLOCK) != 0)
		return 2;
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	crc_init();
	open_serial(argc > 3 ? argv[3] : "/dev/ttyS0");
	read_boot_id();
	if (strcmp(path, "auto") == 0 && !(path = await_disk()))
		return 0;
	fd = open_disk(path);
	slots = slots_of(fd);
	if (slots == 0) {
		say("canary fatal device=%s text=%s\n", path, fd < 0 ? strerror(errno) : "no canary area here");
		return 1;
	}
	run(fd, path, slots, pace_ns);
	return 0;
}
