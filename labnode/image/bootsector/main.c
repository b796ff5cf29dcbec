// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The canary of ../canary.c without an operating system: real mode, the BIOS for the disk, the first serial port.
 *
 * It writes the same records into the same kind of ring and says the same lines, so whatever reads one reads the
 * other (../../src/labnode/canary.py, roles/drill/files/drill/canary.py). It is up as soon as the BIOS is.
 *
 * An acknowledged write is one for which int 13h has come back without an error, with all eight sectors. SeaBIOS
 * sends no flush to any kind of disk. On virtio-blk it does not take the feature FLUSH either, and QEMU then
 * writes through, whatever cache the disk has. On every other bus the disk needs cache=writethrough or directsync:
 * without it an image's tables may never reach the disk, and the canary's word is worth nothing.
 *
 * Built by gcc -m16: 32-bit code that runs in real mode. All of it, its data and its stack lie below 64 KiB.
 */
#include <stdint.h>

#define BLOCK 4096u
#define SECTOR 512u
#define SECTORS (BLOCK / SECTOR)
#define STRIDE 32u
#define RECORD_MAGIC 0x59524e43u
#define BODY_AT 64u
#define BODY_CRC_AT (BLOCK - 4u)
#define DEFAULT_PACE_MS 100u
#define TICK_MS 50u
#define COM1 0x3f8
#define PIT_HZ 1193182u
#define PM1_STATUS 0x600 /* where SeaBIOS puts the power management of both machine types */
#define PM1_ENABLE 0x602
#define PM1_CONTROL 0x604
#define POWER_BUTTON 0x100
#define EIO 5

struct packet { /* what int 13h takes by 42h and 43h */
	uint8_t size, zero;
	uint16_t count, offset, segment;
	uint32_t lba, lba_high;
};

struct header {
	char magic[16];
	uint32_t block, slots;
};

struct record { /* as in ../canary.c */
	uint32_t magic, last_latency_us;
	uint64_t seq, mono_ns, real_ns;
	uint8_t boot[16];
	uint32_t head_crc;
};

struct partition {
	uint8_t active, first[3], kind, last[3];
	uint32_t start, size;
} __attribute__((packed));

extern uint8_t drive;
static uint8_t block[BLOCK] __attribute__((aligned(16)));
static uint32_t table[256], khz, area, slots, pace_ms, tick_ms, latency_us, second_at;
static uint64_t tsc_zero, edge_us;
static union { uint8_t bytes[16]; uint32_t words[4]; } boot;
static char line[256];
static uint32_t length, torn, cmos_second;

/* ---- the machine ---- */

static inline void outb(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outw(uint16_t port, uint16_t value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static inline uint8_t inb(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
static inline uint16_t inw(uint16_t port)
{
	uint16_t value;
	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
static inline uint64_t rdtsc(void)
{
	uint64_t value;
	__asm__ volatile("rdtsc" : "=A"(value));
	return value;
}

static void copy(void *to, const void *from, uint32_t n)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/* The compiler may ask for these by name. */
void *memcpy(void *to, const void *from, uint32_t n) { copy(to, from, n); return to; }
void *memset(void *to, int byte, uint32_t n)
{
	void *at = to;
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(byte) : "memory");
	return to;
}

static uint64_t divide(uint64_t value, uint32_t by, uint32_t *rest)
{
	uint32_t high = (uint32_t)(value >> 32), low = (uint32_t)value, top = high / by, left = high % by;

	__asm__("divl %2" : "+a"(low), "+d"(left) : "r"(by));
	if (rest)
		*rest = left;
	return (uint64_t)top << 32 | low;
}

/* Move sectors between the disk and memory below 64 KiB; 0, or what the BIOS says is wrong. */
static uint8_t int13(uint8_t verb, uint32_t lba, uint16_t count, void *at)
{
	struct packet packet = { 16, 0, count, (uint16_t)(uint32_t)at, 0, lba, 0 };
	uint32_t eax = (uint32_t)verb << 8, edx = drive, esi = (uint32_t)&packet;
	uint8_t failed;

	__asm__ volatile("int $0x13\n\tsetc %0\n\tcld"
			 : "=b"(failed), "+a"(eax), "+d"(edx), "+S"(esi) : : "ecx", "edi", "memory", "cc");
	if (failed)
		return (uint8_t)(eax >> 8) ? (uint8_t)(eax >> 8) : 0xff;
	return packet.count == count ? 0 : 0xfe; /* the BIOS leaves there how many it has moved */
}

static uint32_t crc32_of(const uint8_t *p, uint32_t n)
{
	uint32_t c = ~0u;

	while (n--)
		c = table[(c ^ *p++) & 255] ^ (c >> 8);
	return ~c;
}

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? (c >> 1) ^ 0xEDB88320u : c >> 1;
		table[i] = c;
	}
}

/* ---- time ---- */

/* Ticks of the processor's counter in a millisecond, held against the timer chip. Whatever comes between makes a
 * measurement longer and never shorter, so the shortest of three is taken. */
static uint32_t measure_khz(void)
{
	const uint32_t ms = 10, count = PIT_HZ / 1000u * ms;
	uint32_t best = ~0u;

	for (int i = 0; i < 3; i++) {
		uint32_t spins = 10000000, ticks;
		uint64_t begun;

		outb(0x61, (inb(0x61) & ~2) | 1); /* channel 2 counts, the speaker is off */
		outb(0x43, 0xb0);
		outb(0x42, count & 255);
		begun = rdtsc();
		outb(0x42, count >> 8);
		while (!(inb(0x61) & 0x20) && --spins)
			;
		ticks = (uint32_t)divide(rdtsc() - begun, ms, 0);
		if (ticks < best)
			best = ticks;
	}
	return best ? best : 1;
}

static uint64_t mono_us(void) { return divide((rdtsc() - tsc_zero) * 1000u, khz, 0); }

static uint8_t cmos(uint8_t at)
{
	outb(0x70, at);
	return inb(0x71);
}

static uint32_t plain(uint8_t value, uint8_t mode)
{
	return mode & 4 ? value : (uint32_t)(value >> 4) * 10 + (value & 15);
}

/* Seconds since 1970 by the clock chip, which QEMU keeps by the host's clock. */
static uint32_t chip_seconds(void)
{
	uint8_t mode = cmos(0x0b), raw[7];
	static const uint8_t at[7] = { 0, 2, 4, 7, 8, 9, 0x32 };
	uint32_t part[7], year, month, day;

	do
		for (int i = 0; i < 7; i++)
			raw[i] = cmos(at[i]);
	while (raw[0] != cmos(0));
	cmos_second = raw[0];
	for (int i = 0; i < 7; i++)
		part[i] = plain(raw[i], mode);
	month = part[4] > 2 ? part[4] - 3 : part[4] + 9; /* from March, so that the odd day comes last */
	year = part[6] * 100 + part[5] - (part[4] <= 2);
	day = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + part[3] - 1 - 719468;
	return day * 86400 + part[2] * 3600 + part[1] * 60 + part[0];
}

/* The second is the chip's; what is behind it counts from when that second was first seen. */
static uint64_t real_us(uint64_t mono)
{
	uint64_t since;

	if (!second_at || cmos(0) != cmos_second) {
		second_at = chip_seconds();
		edge_us = mono;
	}
	since = mono - edge_us;
	return (uint64_t)second_at * 1000000u + (since < 999999 ? since : 999999);
}

/* ---- the serial port ---- */

static void add(const char *text)
{
	while (*text)
		line[length++] = *text++;
}

static void add_number(uint64_t value)
{
	char digits[20];
	uint32_t n = 0, digit;

	do {
		value = divide(value, 10, &digit);
		digits[n++] = (char)('0' + digit);
	} while (value);
	while (n)
		line[length++] = digits[--n];
}

static void add_hex(uint32_t value, int digits)
{
	while (digits--)
		line[length++] = "0123456789abcdef"[value >> (4 * digits) & 15];
}

static void add_boot(void)
{
	add(" boot=");
	for (int i = 0; i < 4; i++)
		add_hex(boot.bytes[i], 2);
}

static void begin(const char *what)
{
	length = 0;
	if (torn)
		add("\n");
	add("canary ");
	add(what);
}

/* A port that takes nothing for a second loses the line, never the heartbeat. */
static void say(void)
{
	uint64_t ends = rdtsc() + (uint64_t)khz * 1000u;

	line[length++] = '\n';
	torn = 0;
	for (uint32_t i = 0; i < length; i++) {
		while (i % 16 == 0 && !(inb(COM1 + 5) & 0x20)) /* its buffer takes sixteen at once */
			if (rdtsc() > ends) {
				torn = 1;
				return;
			}
		outb(COM1, (uint8_t)line[i]);
	}
}

static void open_serial(void)
{
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x80);
	outb(COM1, 1); /* 115200 */
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3); /* 8 bits, no parity */
	outb(COM1 + 2, 7); /* buffers on, and empty */
	outb(COM1 + 4, 3);
}

/* ---- settings ---- */

/* Memory from anywhere to below 64 KiB; the BIOS moves words. */
static void fetch(uint32_t from, void *to, uint16_t bytes)
{
	uint16_t gdt[24] = { [8] = 0xffff, [9] = (uint16_t)from, [10] = (uint16_t)(0x9300 | (from >> 16 & 255)),
			     [11] = (uint16_t)(from >> 24 << 8), [12] = 0xffff, [13] = (uint16_t)(uint32_t)to,
			     [14] = 0x9300 };
	uint32_t eax = 0x8700, ecx = bytes / 2, esi = (uint32_t)gdt;

	__asm__ volatile("int $0x15\n\tcld" : "+a"(eax), "+c"(ecx), "+S"(esi) : : "memory", "cc");
}

static uint32_t same(const uint8_t *at, const char *text)
{
	while (*text)
		if (*at++ != (uint8_t)*text++)
			return 0;
	return 1;
}

/* Where the machine's SMBIOS table begins, 0 where it has none. Its entry point begins a paragraph of the BIOS. */
static uint32_t find_smbios(void)
{
	for (uint32_t part = 0xf0000; part < 0x100000; part += BLOCK) {
		fetch(part, block, BLOCK);
		for (uint32_t at = 0; at < BLOCK; at += 16)
			if (same(block + at, "_SM_")) {
				fetch(part + at + 24, block, 4);
				return *(uint32_t *)block;
			}
	}
	return 0;
}

/* "pace_ms=N" in the family that the machine's SMBIOS names: the table is taken into the block. */
static uint32_t find_pace(void)
{
	uint8_t *at = block, *end;
	uint32_t pace = 0, where = find_smbios();

	if (!where)
		return DEFAULT_PACE_MS;
	fetch(where, block, BLOCK);
	for (end = block + BLOCK - 64; at < end && at[0] != 1;) { /* structures, each with its strings behind it */
		for (at += at[1]; at < end && (at[0] || at[1]); at++)
			;
		at += 2;
	}
	for (at += at[1]; at < end && (at[0] || at[1]); at++)
		if (same(at, "pace_ms=")) {
			for (at += 8; *at >= '0' && *at <= '9'; at++)
				pace = pace * 10 + *at - '0';
			break;
		}
	return pace && pace < 100000 ? pace : DEFAULT_PACE_MS;
}

/* Another one for each boot: what time it is, and how long the ways to the chips take, which is never the same. */
static void make_boot(void)
{
	uint64_t state = rdtsc() ^ (uint64_t)chip_seconds() << 32;

	for (int i = 0; i < 64; i++) {
		outb(0x43, 0); /* hold channel 0 for reading */
		state ^= rdtsc() + inb(0x40) + ((uint32_t)inb(0x40) << 8);
		state *= 6364136223846793005u;
		state ^= state >> 29;
		boot.words[i & 3] ^= (uint32_t)(state >> 32);
	}
}

/* ---- the ring ---- */

static uint64_t seq_in(uint32_t slot)
{
	struct record r;

	if (int13(0x42, area + (slot + 1) * SECTORS, 1, block))
		return 0;
	copy(&r, block, sizeof r);
	if (r.magic != RECORD_MAGIC || r.head_crc != crc32_of(block, __builtin_offsetof(struct record, head_crc)))
		return 0;
	return r.seq;
}

/*
 * The newest number on the disk. Each read through the BIOS costs an emulated host milliseconds, so it is looked for
 * in ever smaller strides: in the first round all around the ring, then on from the newest that is known, until two
 * strides of the round before hold nothing newer. One damaged record does not hide the ones behind it.
 */
static uint64_t newest(void)
{
	uint64_t best = 0;
	uint32_t at = 0;

	for (uint32_t stride = STRIDE * STRIDE; stride; stride /= STRIDE) {
		uint32_t from = at, enough = stride == STRIDE * STRIDE ? slots : 2 * STRIDE;

		for (uint32_t step = 0, quiet = 0; step < slots && quiet < enough; step += stride, quiet++) {
			uint32_t slot = from + step < slots ? from + step : from + step - slots;
			uint64_t seq = seq_in(slot);
			if (seq > best) {
				best = seq;
				at = slot;
				quiet = 0;
			}
		}
	}
	return best;
}

static uint32_t find_area(void)
{
	const struct partition *first = (const struct partition *)(0x7c00 + 446);
	struct header h;

	area = first->start;
	if (int13(0x42, area, 1, block))
		return 0;
	copy(&h, block, sizeof h);
	return same(block, "pvelab-canary-1\n") && h.block == BLOCK ? h.slots : 0;
}

static uint32_t fill(uint64_t seq)
{
	uint64_t mono = mono_us();
	struct record r = { RECORD_MAGIC, latency_us, seq, mono * 1000u, real_us(mono) * 1000u, { 0 }, 0 };
	uint32_t noise = (uint32_t)seq * 2654435761u, crc;

	copy(r.boot, boot.bytes, sizeof r.boot);
	memset(block, 0, BODY_AT);
	copy(block, &r, sizeof r);
	r.head_crc = crc32_of(block, __builtin_offsetof(struct record, head_crc));
	copy(block, &r, sizeof r);
	for (uint32_t at = BODY_AT; at < BODY_CRC_AT; at += 4) {
		noise = noise * 1664525u + 1013904223u;
		copy(block + at, &noise, 4);
	}
	crc = crc32_of(block, BODY_CRC_AT);
	copy(block + BODY_CRC_AT, &crc, 4);
	return crc;
}

/* ---- the heartbeat ---- */

/* QEMU's power button, which nothing else here would hear. */
static void look_at_button(void)
{
	if (inw(PM1_STATUS) == 0xffff || !(inw(PM1_STATUS) & POWER_BUTTON))
		return;
	begin("stop");
	add_boot();
	say();
	outw(PM1_CONTROL, 0x2000); /* off */
}

/* The timer interrupts every `tick_ms`, a whole part of the pace, so the nearest of its ticks is the right one. */
static void sleep_until(uint64_t when)
{
	while (rdtsc() + (uint64_t)khz * tick_ms / 2 < when)
		__asm__ volatile("hlt");
	look_at_button();
}

static void beat(uint64_t seq, uint32_t slot)
{
	for (;;) {
		uint32_t crc = fill(seq);
		uint64_t begun = rdtsc(), done, mono;
		uint8_t wrong = int13(0x43, area + (slot + 1) * SECTORS, SECTORS, block);

		done = rdtsc();
		mono = mono_us();
		begin(wrong ? "error seq=" : "ack seq=");
		add_number(seq);
		add_boot();
		add(" mono_us=");
		add_number(mono);
		if (!wrong) {
			latency_us = (uint32_t)divide((done - begun) * 1000u, khz, 0);
			add(" real_us=");
			add_number(real_us(mono));
			add(" lat_us=");
			add_number(latency_us);
			add(" crc=");
			add_hex(crc, 8);
			say();
			return;
		}
		add(" errno=");
		add_number(EIO);
		add(" text=the BIOS says ");
		add_hex(wrong, 2);
		say();
		sleep_until(done + (uint64_t)khz * pace_ms);
	}
}

static void set_timer(void)
{
	uint32_t ticks = (pace_ms + TICK_MS - 1) / TICK_MS, count;

	tick_ms = pace_ms / ticks;
	count = PIT_HZ / 1000u * pace_ms / ticks;
	outb(0x43, 0x34);
	outb(0x40, count & 255);
	outb(0x40, (uint8_t)(count >> 8));
}

void run(void)
{
	uint64_t seq, next;
	uint32_t slot;

	crc_init();
	open_serial();
	khz = measure_khz();
	tsc_zero = rdtsc();
	pace_ms = find_pace();
	make_boot();
	slots = find_area();
	if (!slots) {
		begin("fatal text=no canary area behind this boot sector");
		say();
		return;
	}
	seq = newest();
	divide(seq, slots, &slot);
	outw(PM1_ENABLE, POWER_BUTTON);
	set_timer();
	begin("start seq=");
	add_number(seq + 1);
	add_boot();
	add(" device=bios-");
	add_hex(drive, 2);
	add(" slots=");
	add_number(slots);
	add(" pace_ms=");
	add_number(pace_ms);
	say();
	for (next = rdtsc();; slot = slot + 1 < slots ? slot + 1 : 0) {
		beat(++seq, slot);
		next += (uint64_t)khz * pace_ms;
		if (next < rdtsc()) /* late: go on from here, without catching up in a burst */
			next = rdtsc();
		sleep_until(next);
	}
}
