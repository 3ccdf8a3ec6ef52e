/* See shim.h. */
#define _GNU_SOURCE
#include <stdio.h>

#include "shim.h"

size_t shim_mbuf_layout_at(unsigned int index)
{
	static const size_t layout[] = {
#define SHIM_OFFSET(name, field) offsetof(struct rte_mbuf, field),
		SHIM_MBUF_FIELDS(SHIM_OFFSET)
#undef SHIM_OFFSET
		sizeof(struct rte_mbuf),
	};
	return index < sizeof(layout) / sizeof(layout[0]) ? layout[index] : SIZE_MAX;
}

int shim_errno(void)
{
	return rte_errno;
}

unsigned int shim_lcore_id(void)
{
	return rte_lcore_id();
}

uint64_t shim_rdtsc(void)
{
	return rte_rdtsc();
}

typedef void (*log_sink)(uint32_t level, const char *text, size_t len);
static log_sink log_to;

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	log_to((uint32_t)rte_log_cur_msg_loglevel(), text, len);
	return (ssize_t)len;
}

int shim_log_to(log_sink sink)
{
	cookie_io_functions_t io = { .write = log_write };
	FILE *stream;

	log_to = sink;
	stream = fopencookie(NULL, "w", io);
	return stream == NULL ? -1 : rte_openlog_stream(stream);
}

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void shim_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int shim_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail);
}

uint16_t shim_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, mbufs, n);
}

uint16_t shim_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, mbufs, n);
}

int shim_eth_link(uint16_t port, uint32_t *speed_mbps, uint8_t *up, uint8_t *full_duplex)
{
	struct rte_eth_link link = { 0 };
	int rc = rte_eth_link_get_nowait(port, &link);

	*speed_mbps = link.link_speed;
	*up = link.link_status == RTE_ETH_LINK_UP;
	*full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return rc;
}
