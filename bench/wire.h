/*
 * The part of the vfio-user protocol that the bench programs speak, and the registers of the
 * device that they drive. Everything on the wire is little-endian and packed.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdint.h>

#define PACKED __attribute__((packed))

enum command {
    CMD_VERSION = 1,
    CMD_DMA_MAP = 2,
    CMD_DMA_UNMAP = 3,
    CMD_GET_INFO = 4,
    CMD_GET_REGION_INFO = 5,
    CMD_SET_IRQS = 8,
    CMD_REGION_READ = 9,
    CMD_REGION_WRITE = 10,
    CMD_DMA_READ = 11,
    CMD_DMA_WRITE = 12,
    CMD_RESET = 13,
    CMD_REGION_WRITE_MULTI = 15,
    CMD_FEATURE = 16,
    CMD_MIG_DATA_READ = 17,
    CMD_MIG_DATA_WRITE = 18,
};

#define FLAG_TYPE_MASK 0xfu
#define FLAG_REPLY 0x1u
#define FLAG_NO_REPLY 0x10u
#define FLAG_ERROR 0x20u

struct header { uint16_t id, command; uint32_t size, flags, error; } PACKED;
struct version { uint16_t major, minor; } PACKED;
struct region_access { uint64_t offset; uint32_t region, count; } PACKED;
struct dma_access { uint64_t address, count; } PACKED;
struct dma_map { uint32_t argsz, flags; uint64_t offset, address, size; } PACKED;
struct dma_unmap { uint32_t argsz, flags; uint64_t address, size; } PACKED;
struct device_info { uint32_t argsz, flags, regions, irqs; } PACKED;
struct region_info { uint32_t argsz, flags, index, cap_offset; uint64_t size, offset; } PACKED;
struct irq_set { uint32_t argsz, flags, index, start, count; } PACKED;
struct feature { uint32_t argsz, flags; } PACKED;
struct device_state { uint32_t state, data_fd; } PACKED;
struct mig_data { uint32_t argsz, size; } PACKED;
struct multi_write { uint64_t offset; uint32_t region, count; uint8_t data[8]; } PACKED;
struct logging_start { uint64_t page_size; uint32_t ranges, reserved; } PACKED;
struct logging_report { uint64_t iova, length, page_size; } PACKED;

#define DMA_READ_WRITE 3u
#define UNMAP_ALL 2u

#define IRQ_INDEX_MSIX 2u
#define IRQ_DATA_NONE (1u << 0)
#define IRQ_DATA_EVENTFD (1u << 2)
#define IRQ_ACTION_TRIGGER (1u << 5)

#define FEATURE_GET (1u << 16)
#define FEATURE_SET (1u << 17)
#define FEATURE_MIGRATION 1u
#define FEATURE_DEVICE_STATE 2u
#define FEATURE_LOGGING_START 6u
#define FEATURE_LOGGING_STOP 7u
#define FEATURE_LOGGING_REPORT 8u
#define MIGRATION_PRE_COPY 4u

enum state {
    STATE_STOP = 1,
    STATE_RUNNING = 2,
    STATE_STOP_COPY = 3,
    STATE_RESUMING = 4,
    STATE_PRE_COPY = 6,
};

/* BAR0 of the bench device. Scratch memory begins at BENCH_SCRATCH. */
#define BENCH_DOORBELL 0x080u    /* u32: raise the MSI-X vector whose number is written */
#define BENCH_DMA_ADDRESS 0x100u /* u64: IOVA */
#define BENCH_DMA_LENGTH 0x108u  /* u32: bytes, at most 16 MiB */
#define BENCH_DMA_REPEAT 0x10cu  /* u32: how often */
#define BENCH_DMA_COMMAND 0x110u /* u32: one of enum dma_command, runs within the write */
#define BENCH_DMA_STATUS 0x114u  /* i32: 0 or an errno */
#define BENCH_DMA_ELAPSED 0x118u /* u64: nanoseconds that the command took */
#define BENCH_SCRATCH 0x1000u

enum dma_command {
    DMA_MAPPED_READ = 1,
    DMA_MAPPED_FILL = 2,
    DMA_MESSAGE_READ = 3,
    DMA_MESSAGE_WRITE = 4,
};

#endif
