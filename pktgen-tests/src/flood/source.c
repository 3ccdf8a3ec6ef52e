/*
 * A source of packets inside shuntd: a plug-in of the EAL (-d) that stands between the workers and
 * the driver of the first port.
 *
 * A worker that asks the port for packets gets what the driver has, and then as many made here as
 * there is room for: it never finds the queue empty, which is what a full core means. Frames are
 * templates with bytes drawn anew for each; what the director sends on of them ends here, so that
 * no driver and no kernel slows the flood down. All other frames pass in both directions.
 *
 * What is made is told by a file (CONTROL) that a test writes and this maps; mod.rs beside this
 * file has the same layout. A change is a new generation: each queue that has taken it up says so.
 *
 * Uses public DPDK interfaces only: rte_eth_fp_ops is what rte_eth_rx_burst itself calls through.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define QUEUES 8
#define PATCHES 20
#define TEMPLATES 8
#define NUMBERS 65536
/* A worker that does not poll for so long, in nanoseconds, is not running. */
#define AWAY_NS 100000000u

struct patch {
	uint8_t at, from, mask, unused;
};

/* The internet checksum of len bytes from start, and of seed, is written to at. */
struct sum {
	uint16_t start, len, at, seed;
};

struct template {
	uint16_t len;
	uint8_t patches, sums;
	uint32_t lag; /* bytes are those of so many draws ago */
	struct patch patch[PATCHES];
	struct sum sum[2];
	uint8_t bytes[152];
};

struct queue {
	uint64_t made, no_mbufs, ended, passed, done, stray;
	uint32_t generation, honest, unused[2];
};

struct control {
	uint32_t armed, ready, generation, templates;
	uint32_t numbered, draws; /* drawn: a number from 0 on, not bytes at random; how many, 0 is no end */
	uint32_t interval_ns, honest_ns; /* between two draws of a queue; between two honest datagrams */
	uint32_t queues, unused[7];
	struct template flood[TEMPLATES];
	/* IPv4 first and later fragment, IPv6 first and later fragment. */
	struct template honest[4];
	struct queue queue[QUEUES];
	/* By number and place in honest: the last byte of the Ethernet address it went to. */
	uint8_t arrived[4][NUMBERS];
	/* By number: a worker was away from its processor when it was due. */
	uint8_t late[NUMBERS];
};

_Static_assert(sizeof(struct template) == 256, "as in mod.rs");
_Static_assert(offsetof(struct control, flood) == 64, "as in mod.rs");
_Static_assert(sizeof(struct queue) == 64, "as in mod.rs");

static struct control *control;
static eth_rx_burst_t driver_rx;
static eth_tx_burst_t driver_tx;
static void *rxqs[QUEUES], *txqs[QUEUES];

/* What a queue's worker alone uses. */
static struct state {
	struct rte_mempool *pool;
	uint64_t start, draw, honest, seed;
	uint32_t next;
} __rte_cache_aligned states[QUEUES];

/* When the honest datagrams of a generation began, for all queues. */
static uint64_t honest_start;
static uint32_t honest_generation;
static double cycles_per_ns;

static inline uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline void checksum(uint8_t *frame, const struct sum *s)
{
	uint64_t total = s->seed;
	for (unsigned i = 0; i + 1 < s->len; i += 2)
		total += (unsigned)frame[s->start + i] << 8 | frame[s->start + i + 1];
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	total = ~total & 0xffff;
	frame[s->at] = total >> 8;
	frame[s->at + 1] = total;
}

static inline void make(struct rte_mbuf *mbuf, const struct template *t, const uint64_t *drawn)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	const uint8_t *bytes = (const uint8_t *)drawn;
	memcpy(frame, t->bytes, t->len);
	for (unsigned i = 0; i < t->patches; i++) {
		struct patch p = t->patch[i];
		frame[p.at] |= bytes[p.from] & p.mask;
	}
	for (unsigned i = 0; i < t->sums; i++)
		checksum(frame, &t->sum[i]);
	mbuf->data_len = mbuf->pkt_len = t->len;
	mbuf->port = 0;
}

static unsigned flood(struct state *s, unsigned queue, struct rte_mbuf **mbufs, unsigned room)
{
	uint32_t templates = control->templates;
	uint64_t limit = control->draws ? control->draws : UINT64_MAX;
	if (control->interval_ns) {
		double passed = (rte_rdtsc() - s->start) / cycles_per_ns;
		uint64_t due = passed / control->interval_ns + 1;
		limit = due < limit ? due : limit;
	}
	unsigned made = 0;
	while (made < room && s->draw < limit) {
		const struct template *t = &control->flood[s->next];
		uint64_t n = s->draw - t->lag, drawn[4];
		if (control->numbered) {
			drawn[0] = n * control->queues + queue;
			drawn[1] = drawn[2] = drawn[3] = 0;
		} else {
			for (unsigned i = 0; i < 4; i++)
				drawn[i] = mix(s->seed + (n * 4 + i) * 0x9e3779b97f4a7c15ull);
		}
		make(mbufs[made++], t, drawn);
		if (++s->next >= templates) {
			s->next = 0;
			s->draw++;
		}
	}
	if (control->draws && s->draw >= control->draws)
		__atomic_store_n(&control->queue[queue].done, 1, __ATOMIC_RELEASE);
	return made;
}

/*
 * All fragments of a datagram come to one queue, for a NIC that hashes L4 ports has none of later
 * fragments to hash and leaves them out of all. Half of the time it is not the queue of the flow.
 */
static unsigned honest(struct state *s, unsigned queue, struct rte_mbuf **mbufs, unsigned room)
{
	uint64_t start = __atomic_load_n(&honest_start, __ATOMIC_ACQUIRE), now = rte_rdtsc();
	if (start == 0 || now < start)
		return 0;
	uint64_t due = (now - start) / cycles_per_ns / control->honest_ns;
	/* What waits for a worker that does not run tells nothing of the director. */
	if (due > s->honest + AWAY_NS / control->honest_ns) {
		for (uint64_t n = s->honest > 2 ? s->honest - 2 : 0; n < due && n < NUMBERS; n++)
			control->late[n] = 1;
	}
	unsigned made = 0;
	while (s->honest < due && s->honest < NUMBERS && made + 4 <= room) {
		uint64_t n = s->honest++, drawn[4] = { n, n % 64, 0, 0 };
		if (control->queues > 1 && (((n >> 6) ^ n) & 1) != queue)
			continue;
		for (unsigned i = 0; i < 4; i++)
			make(mbufs[made++], &control->honest[i], drawn);
	}
	control->queue[queue].honest = s->honest;
	return made;
}

static void take_up(struct state *s, unsigned queue, uint32_t generation)
{
	uint64_t now = rte_rdtsc();
	s->start = now;
	s->draw = s->honest = s->next = 0;
	s->seed = mix(now ^ (uint64_t)queue << 60);
	uint32_t before = __atomic_load_n(&honest_generation, __ATOMIC_ACQUIRE);
	if (before != generation && __atomic_compare_exchange_n(&honest_generation, &before, generation,
			false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		__atomic_store_n(&honest_start, now, __ATOMIC_RELEASE);
	control->queue[queue].done = 0;
	__atomic_store_n(&control->queue[queue].generation, generation, __ATOMIC_RELEASE);
}

static inline unsigned number_of(void **queues, void *queue)
{
	unsigned i = 0;
	while (i < QUEUES - 1 && queues[i] != queue)
		i++;
	return i;
}

static uint16_t source_rx(void *rxq, struct rte_mbuf **mbufs, uint16_t room)
{
	unsigned queue = number_of(rxqs, rxq);
	struct state *s = &states[queue];
	unsigned received = driver_rx(rxq, mbufs, room);
	uint32_t generation = __atomic_load_n(&control->generation, __ATOMIC_ACQUIRE);
	if (generation != control->queue[queue].generation)
		take_up(s, queue, generation);
	control->queue[queue].passed += received;
	if (received >= room || (!control->templates && !control->honest_ns))
		return received;
	unsigned free = room - received;
	if (rte_pktmbuf_alloc_bulk(s->pool, mbufs + received, free) != 0) {
		control->queue[queue].no_mbufs++;
		return received;
	}
	unsigned made = 0;
	if (control->honest_ns)
		made = honest(s, queue, mbufs + received, free);
	if (control->templates)
		made += flood(s, queue, mbufs + received + made, free - made);
	if (made < free)
		rte_pktmbuf_free_bulk(mbufs + received + made, free - made);
	control->queue[queue].made += made;
	return received + made;
}

/* Sources of floods are in 64.0.0.0/3 and 2a00::/8, honest ones in 10.0.0.0/8 and 2a00::/8. */
static inline bool ours4(const uint8_t *address)
{
	return (address[0] & 0xe0) == 0x40 || address[0] == 10;
}

static inline void arrived(const uint8_t *frame, unsigned place, const uint8_t *number)
{
	unsigned n = number[0] | number[1] << 8;
	control->arrived[place][n] = frame[5];
}

/* Whether a frame ends here. */
static bool ends(const struct rte_mbuf *mbuf)
{
	const uint8_t *f = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	if (mbuf->data_len < 60)
		return false;
	if (f[12] == 0x08 && f[13] == 0x00) {
		if (f[26] == 10 && f[27] == 8 && f[23] == 17) {
			bool later = (f[20] & 0x1f) | f[21];
			if (later || f[20] & 0x20)
				arrived(f, later ? 1 : 0, f + (later ? 34 : 42));
		}
		return ours4(f + 26) || ours4(f + 30);
	}
	if (f[12] == 0x86 && f[13] == 0xdd) {
		if (f[22] == 0x2a && f[23] == 0x08 && f[20] == 44) {
			bool later = f[56] | (f[57] & 0xf8);
			arrived(f, later ? 3 : 2, f + (later ? 62 : 70));
		}
		return f[22] == 0x2a || f[38] == 0x2a;
	}
	return false;
}

static uint16_t source_tx(void *txq, struct rte_mbuf **mbufs, uint16_t count)
{
	unsigned queue = number_of(txqs, txq);
	struct rte_mbuf *others[512], *mine[512];
	unsigned n_others = 0, n_mine = 0;
	if (count > 512)
		count = 512;
	for (unsigned i = 0; i < count; i++) {
		if (ends(mbufs[i]))
			mine[n_mine++] = mbufs[i];
		else
			others[n_others++] = mbufs[i];
	}
	control->queue[queue].ended += n_mine;
	rte_pktmbuf_free_bulk(mine, n_mine);
	if (n_others) {
		unsigned sent = driver_tx(txq, others, n_others);
		/* A kernel's queue that is full for a moment: lost, as on a wire, and said. */
		control->queue[queue].stray += n_others - sent;
		rte_pktmbuf_free_bulk(others + sent, n_others - sent);
	}
	return count;
}

/* The director's buffers are the largest pool; not every driver tells which it was given. */
static void larger(struct rte_mempool *pool, void *found)
{
	struct rte_mempool **most = found;
	if (!*most || pool->size > (*most)->size)
		*most = pool;
}

/* Waits until the test says that the port has started, and steps in between. */
static void *arm(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&control->armed, __ATOMIC_ACQUIRE))
		usleep(5000);
	struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[0];
	struct rte_eth_dev_info info;
	if (rte_eth_dev_info_get(0, &info) != 0)
		return NULL;
	cycles_per_ns = rte_get_tsc_hz() / 1e9;
	control->queues = info.nb_rx_queues < QUEUES ? info.nb_rx_queues : QUEUES;
	struct rte_mempool *pool = NULL;
	rte_mempool_walk(larger, &pool);
	if (!pool)
		return NULL;
	for (unsigned i = 0; i < control->queues; i++) {
		rxqs[i] = ops->rxq.data[i];
		txqs[i] = ops->txq.data[i];
		states[i].pool = pool;
	}
	driver_rx = ops->rx_pkt_burst;
	driver_tx = ops->tx_pkt_burst;
	__atomic_store_n(&ops->tx_pkt_burst, source_tx, __ATOMIC_SEQ_CST);
	__atomic_store_n(&ops->rx_pkt_burst, source_rx, __ATOMIC_SEQ_CST);
	__atomic_store_n(&control->ready, 1, __ATOMIC_RELEASE);
	return NULL;
}

__attribute__((constructor)) static void start(void)
{
	int file = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (file < 0)
		return;
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	pthread_t thread;
	if (control != MAP_FAILED && pthread_create(&thread, NULL, arm, NULL) == 0)
		pthread_detach(thread);
}
