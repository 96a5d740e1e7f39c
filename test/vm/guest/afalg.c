/*
 * Drives the kernel's ciphers from user space, over AF_ALG sockets (Documentation/crypto/
 * userspace-if.rst): one implementation against another.
 *
 *   afalg compare TYPE NAME REFERENCE KEY IV AAD TAG MOST TOTAL
 *     Encrypts TOTAL bytes in requests of many sizes up to MOST with NAME and with REFERENCE, wants
 *     the same ciphertext of both, and wants NAME to decrypt it to what it was.
 *     TYPE is skcipher or aead; NAME and REFERENCE are names of /proc/crypto; KEY, IV, AAD and TAG
 *     are lengths in bytes, the last two 0 for skcipher.
 *   afalg busy TYPE NAME KEY IV AAD TAG MOST
 *     Encrypts MOST bytes again and again until SIGTERM, also after a request that failed: what a
 *     reset interrupts. Requests are of a few kinds in turn. All of a kind that succeed must give the
 *     same, which must still be there a few requests later, and the last one must succeed.
 *
 * Prints "RESULT NAME ok ..." with counts, or "RESULT NAME failed: why".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_alg.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Larger than any request of a test: AF_ALG takes less than a socket's send buffer at a time. */
#define SIZE_MAX_BYTES (128 << 10)
/* Texts and IVs, and buffers for what comes of them: no buffer has the same twice in a row. */
#define KINDS 7
#define BUFFERS 8
/* Where in its page a buffer begins: the device sees segments that end at odd places. */
#define SKEW 40
/* linux/crypto's authenc.h, which is not exported to user space. */
#define CRYPTO_AUTHENC_KEYA_PARAM 1

struct cipher {
	const char *type;
	const char *name;
	size_t key, iv, aad, tag;
	int tfm, request;
};

static const char *subject;
static uint64_t random_state = 0x9e3779b97f4a7c15;

static void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("RESULT %s failed: ", subject);
	vprintf(format, args);
	printf("\n");
	exit(1);
}

/* xorshift64: the same bytes in every run. */
static void fill(uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		random_state ^= random_state << 13;
		random_state ^= random_state >> 7;
		random_state ^= random_state << 17;
		bytes[i] = random_state >> 32;
	}
}

static void set_key(const struct cipher *cipher, const uint8_t *key)
{
	uint8_t blob[256];
	size_t length = cipher->key;

	memcpy(blob, key, length);
	if (strstr(cipher->name, "authenc")) {
		/* Half of an authenc key is the MAC's; a header says where the cipher's begins. */
		struct rtattr header = { RTA_LENGTH(4), CRYPTO_AUTHENC_KEYA_PARAM };
		uint32_t cipher_key = htonl(16);

		memcpy(blob, &header, sizeof(header));
		memcpy(blob + RTA_LENGTH(0), &cipher_key, 4);
		memcpy(blob + RTA_SPACE(4), key, length);
		length += RTA_SPACE(4);
	}
	if (setsockopt(cipher->tfm, SOL_ALG, ALG_SET_KEY, blob, length))
		fail("%s: key: %s", cipher->name, strerror(errno));
}

static void open_cipher(struct cipher *cipher, const uint8_t *key)
{
	struct sockaddr_alg address = { .salg_family = AF_ALG };

	snprintf((char *)address.salg_type, sizeof(address.salg_type), "%s", cipher->type);
	snprintf((char *)address.salg_name, sizeof(address.salg_name), "%s", cipher->name);
	cipher->tfm = socket(AF_ALG, SOCK_SEQPACKET, 0);
	if (cipher->tfm < 0 || bind(cipher->tfm, (struct sockaddr *)&address, sizeof(address)))
		fail("%s: %s", cipher->name, strerror(errno));
	set_key(cipher, key);
	if (cipher->tag &&
	    setsockopt(cipher->tfm, SOL_ALG, ALG_SET_AEAD_AUTHSIZE, NULL, cipher->tag))
		fail("%s: tag of %zu bytes: %s", cipher->name, cipher->tag, strerror(errno));
	cipher->request = accept(cipher->tfm, NULL, NULL);
	if (cipher->request < 0)
		fail("%s: accept: %s", cipher->name, strerror(errno));
}

static struct cmsghdr *add(struct msghdr *message, struct cmsghdr *last, int type, size_t length)
{
	struct cmsghdr *header = last ? CMSG_NXTHDR(message, last) : CMSG_FIRSTHDR(message);

	header->cmsg_level = SOL_ALG;
	header->cmsg_type = type;
	header->cmsg_len = CMSG_LEN(length);
	return header;
}

/* Sends the beginning of a request: what to do, with which IV, and some of the data. */
static ssize_t send_start(const struct cipher *cipher, int operation, const uint8_t *iv,
			  const uint8_t *data, size_t length, int flags)
{
	_Alignas(struct cmsghdr) char control[256] = { 0 };
	struct iovec vector = { (void *)data, length };
	struct msghdr message = {
		.msg_control = control, .msg_controllen = sizeof(control),
		.msg_iov = &vector, .msg_iovlen = 1,
	};
	uint32_t number = operation;
	struct cmsghdr *header = add(&message, NULL, ALG_SET_OP, 4);
	size_t used = CMSG_SPACE(4);

	memcpy(CMSG_DATA(header), &number, 4);
	if (cipher->iv) {
		header = add(&message, header, ALG_SET_IV, 4 + cipher->iv);
		number = cipher->iv;
		memcpy(CMSG_DATA(header), &number, 4);
		memcpy(CMSG_DATA(header) + 4, iv, cipher->iv);
		used += CMSG_SPACE(4 + cipher->iv);
	}
	if (cipher->aad) {
		header = add(&message, header, ALG_SET_AEAD_ASSOCLEN, 4);
		number = cipher->aad;
		memcpy(CMSG_DATA(header), &number, 4);
		used += CMSG_SPACE(4);
	}
	message.msg_controllen = used;
	return sendmsg(cipher->request, &message, flags);
}

/*
 * One request. Returns the length of the result, or a negative errno. Exactly the result's length is
 * read: AF_ALG would wait for another request to fill a larger buffer.
 */
static ssize_t process(const struct cipher *cipher, int operation, const uint8_t *iv,
		       const uint8_t *source, size_t length, uint8_t *target)
{
	ssize_t tag = operation == ALG_OP_ENCRYPT ? cipher->tag : -cipher->tag;
	ssize_t sent = send_start(cipher, operation, iv, source, length, 0);
	ssize_t received;

	if (sent >= 0 && (size_t)sent != length)
		return -EMSGSIZE;
	received = sent < 0 ? sent : read(cipher->request, target, length + tag);
	return received < 0 ? -errno : received;
}

/* One request in two parts: the second goes on with the IV that the first one left. */
static ssize_t process_halves(const struct cipher *cipher, int operation, const uint8_t *iv,
			      const uint8_t *source, size_t length, uint8_t *target)
{
	size_t half = length / 2 & ~(size_t)15;

	if (send_start(cipher, operation, iv, source, half, MSG_MORE) != (ssize_t)half ||
	    read(cipher->request, target, half) != (ssize_t)half ||
	    send(cipher->request, source + half, length - half, 0) != (ssize_t)(length - half) ||
	    read(cipher->request, target + half, length - half) != (ssize_t)(length - half))
		return -errno;
	return length;
}

/* The n-th request's length: at first small and odd ones, then the longest. */
static size_t request_length(const struct cipher *cipher, unsigned int n, size_t most)
{
	static const size_t lengths[] = { 16, 48, 1, 496, 512, 528, 17, 4080, 4096, 4101, 8208 };
	size_t length = n < sizeof(lengths) / sizeof(*lengths) ? lengths[n] : most - n % 7 * 16;
	int whole_blocks = strstr(cipher->name, "ecb(") || strstr(cipher->name, "cbc(");

	if (whole_blocks || (strstr(cipher->name, "xts(") && length < 16))
		return (length + 15) & ~(size_t)15;
	return length;
}

/* CCM has its nonce's length in the IV: here 11 bytes, which leaves 4 for the message's length. */
static void make_iv(const struct cipher *cipher, uint8_t *iv)
{
	fill(iv, cipher->iv);
	if (strstr(cipher->name, "ccm"))
		iv[0] = 3;
}

static void expect_same(const char *what, size_t length, const uint8_t *a, const uint8_t *b)
{
	if (!memcmp(a, b, length))
		return;
	for (size_t i = 0; i < length; i++)
		if (a[i] != b[i])
			fail("%s of %zu bytes differs from byte %zu on", what, length, i);
}

/* A changed tag or text must be noticed. */
static void expect_refused(const struct cipher *cipher, const uint8_t *iv, uint8_t *sealed,
			   size_t length, size_t at, uint8_t *scratch)
{
	ssize_t got;

	sealed[at] ^= 0x10;
	got = process(cipher, ALG_OP_DECRYPT, iv, sealed, length, scratch);
	sealed[at] ^= 0x10;
	if (got != -EBADMSG)
		fail("a forgery of %zu bytes, changed at %zu, gave %zd", length, at, got);
}

static void compare(const struct cipher *cipher, const struct cipher *reference, size_t most,
		    size_t total)
{
	static uint8_t plain[SIZE_MAX_BYTES], buffers[3][SKEW + SIZE_MAX_BYTES];
	uint8_t *sealed = buffers[0] + SKEW, *expected = buffers[1], *opened = buffers[2] + SKEW;
	int chains = strstr(cipher->name, "cbc(") || strstr(cipher->name, "ctr(");
	size_t bytes = 0;
	unsigned int n;

	for (n = 0; bytes < total; n++) {
		size_t length = cipher->aad + request_length(cipher, n, most);
		ssize_t want = length + cipher->tag, got;
		uint8_t iv[16];

		make_iv(cipher, iv);
		fill(plain, length);
		got = process(reference, ALG_OP_ENCRYPT, iv, plain, length, expected);
		if (got != want)
			fail("%s made %zd bytes of %zu", reference->name, got, length);
		got = process(cipher, ALG_OP_ENCRYPT, iv, plain, length, sealed);
		if (got != want)
			fail("%zu bytes were encrypted to %zd", length, got);
		expect_same("ciphertext", want, sealed, expected);
		got = process(cipher, ALG_OP_DECRYPT, iv, sealed, want, opened);
		if (got != (ssize_t)length)
			fail("%zd bytes were decrypted to %zd", want, got);
		expect_same("plaintext", length, opened, plain);
		if (!cipher->tag && chains && length >= 64) {
			got = process_halves(cipher, ALG_OP_ENCRYPT, iv, plain, length, sealed);
			if (got != want)
				fail("%zu bytes in two parts: %zd", length, got);
			expect_same("ciphertext in two parts", length, sealed, expected);
		}
		if (cipher->tag && n % 4 == 0) {
			expect_refused(cipher, iv, sealed, want, want - 1, opened);
			expect_refused(cipher, iv, sealed, want, cipher->aad, opened);
			expect_refused(cipher, iv, sealed, want, 0, opened);
		}
		bytes += length;
	}
	printf("RESULT %s ok bytes=%zu requests=%u\n", cipher->name, bytes, n);
}

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/*
 * A page that a write of the device has not come to, or that was lost later, must not be right by
 * chance: its buffer had another ciphertext before. Nor may the processor write to it, by which a
 * hypervisor would learn that it has changed.
 */
static void be_busy(const struct cipher *cipher, size_t most)
{
	static uint8_t plain[KINDS][SIZE_MAX_BYTES], first[KINDS][SIZE_MAX_BYTES];
	static uint8_t sealed[BUFFERS][SIZE_MAX_BYTES], iv[KINDS][16];
	const uint8_t *holds[BUFFERS] = { 0 };
	size_t requests = 0, errors = 0;
	ssize_t got, want = most + cipher->tag;

	signal(SIGTERM, stop);
	for (int kind = 0; kind < KINDS; kind++) {
		make_iv(cipher, iv[kind]);
		fill(plain[kind], most);
		if (process(cipher, ALG_OP_ENCRYPT, iv[kind], plain[kind], most, first[kind]) != want)
			fail("the first request of kind %d failed", kind);
	}
	do {
		int kind = requests % KINDS, at = requests % BUFFERS;

		if (holds[at])
			expect_same("older ciphertext", want, sealed[at], holds[at]);
		got = process(cipher, ALG_OP_ENCRYPT, iv[kind], plain[kind], most, sealed[at]);
		requests++;
		holds[at] = got == want ? first[kind] : NULL;
		if (holds[at])
			expect_same("ciphertext", want, sealed[at], holds[at]);
		else
			errors++;
	} while (!stopped);
	if (got != want)
		fail("the last of %zu requests failed: %s", requests, strerror(-got));
	printf("RESULT %s ok requests=%zu errors=%zu\n", cipher->name, requests, errors);
}

static struct cipher cipher_of(const char *type, const char *name, char **lengths)
{
	return (struct cipher) {
		.type = type, .name = name,
		.key = atol(lengths[0]), .iv = atol(lengths[1]),
		.aad = atol(lengths[2]), .tag = atol(lengths[3]),
	};
}

int main(int count, char **args)
{
	int compares = count == 11 && !strcmp(args[1], "compare");
	struct cipher cipher, reference;
	uint8_t key[128];

	if (!compares && !(count == 9 && !strcmp(args[1], "busy"))) {
		fprintf(stderr, "usage: afalg compare TYPE NAME REFERENCE KEY IV AAD TAG MOST TOTAL\n"
				"       afalg busy TYPE NAME KEY IV AAD TAG MOST\n");
		return 2;
	}
	subject = args[3];
	fill(key, sizeof(key));
	cipher = cipher_of(args[2], args[3], args + (compares ? 5 : 4));
	open_cipher(&cipher, key);
	if (!compares) {
		be_busy(&cipher, atol(args[8]));
		return 0;
	}
	reference = cipher_of(args[2], args[4], args + 5);
	open_cipher(&reference, key);
	compare(&cipher, &reference, atol(args[9]), atol(args[10]));
	return 0;
}
