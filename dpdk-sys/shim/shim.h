/*
 * What bindgen cannot see in DPDK's headers, made visible: functions for the static inlines,
 * and constants for field offsets and 64-bit flags. No logic.
 *
 * Struct fields that moved or changed their nesting between DPDK 22.11, 23.11 and 24.11 are
 * reached only through what is declared here, so that no Rust line depends on the version.
 */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* The fields of struct rte_mbuf that Rust touches: X(constant's suffix, field). */
#define SHIM_MBUF_FIELDS(X)         \
	X(BUF_ADDR, buf_addr)       \
	X(DATA_OFF, data_off)       \
	X(REFCNT, refcnt)           \
	X(NB_SEGS, nb_segs)         \
	X(PORT, port)               \
	X(OL_FLAGS, ol_flags)       \
	X(PACKET_TYPE, packet_type) \
	X(PKT_LEN, pkt_len)         \
	X(DATA_LEN, data_len)       \
	X(HASH_RSS, hash.rss)       \
	X(BUF_LEN, buf_len)         \
	X(POOL, pool)               \
	X(NEXT, next)               \
	X(TX_OFFLOAD, tx_offload)

enum shim_mbuf_layout {
#define SHIM_OFFSET(name, field) SHIM_MBUF_##name = offsetof(struct rte_mbuf, field),
	SHIM_MBUF_FIELDS(SHIM_OFFSET)
#undef SHIM_OFFSET
#define SHIM_WIDTH(name, field) \
	SHIM_MBUF_##name##_BYTES = sizeof(((struct rte_mbuf *)0)->field),
	SHIM_MBUF_FIELDS(SHIM_WIDTH)
#undef SHIM_WIDTH
	SHIM_MBUF_SIZE = sizeof(struct rte_mbuf),
	SHIM_MBUF_L2_LEN_SHIFT = RTE_MBUF_L2_LEN_OFS,
	SHIM_MBUF_L3_LEN_SHIFT = RTE_MBUF_L3_LEN_OFS,
	SHIM_MBUF_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS,
	SHIM_MBUF_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS,
};

/* Macros with casts, which bindgen skips. */
static const uint64_t SHIM_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SHIM_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SHIM_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SHIM_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t SHIM_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t SHIM_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t SHIM_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t SHIM_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t SHIM_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t SHIM_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t SHIM_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint32_t SHIM_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t SHIM_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t SHIM_LCORE_ID_ANY = LCORE_ID_ANY;
static const int32_t SHIM_SOCKET_ID_ANY = SOCKET_ID_ANY;

/* The layout as the C compiler sees it, in the order of SHIM_MBUF_FIELDS and then the size;
 * SIZE_MAX past the end. Rust's tests compare it with what libclang saw. */
size_t shim_mbuf_layout_at(unsigned int index);

int shim_errno(void);
unsigned int shim_lcore_id(void);
uint64_t shim_rdtsc(void);

/* Sends every message of rte_log to `sink` with its RTE_LOG_* level; 0, or -1 with errno. */
int shim_log_to(void (*sink)(uint32_t level, const char *text, size_t len));

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool);
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
void shim_pktmbuf_free(struct rte_mbuf *mbuf);
int shim_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);

uint16_t shim_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t shim_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);

/* struct rte_eth_link is a struct of bit fields in 22.11 and a union in 24.11. */
int shim_eth_link(uint16_t port, uint32_t *speed_mbps, uint8_t *up, uint8_t *full_duplex);

#endif
