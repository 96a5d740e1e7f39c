/*
 * Has the kernel compute with keys, over its key retention service (Documentation/security/keys):
 * the only ways from user space to its public-key ciphers.
 *
 *   keys dh PRIME BASE PRIVATE      BASE to the power of PRIVATE modulo PRIME
 *   keys encrypt|decrypt|sign PKCS8 INFORMATION INPUT
 *     an operation with a private key; INFORMATION is what keyctl_pkey_encrypt(3) takes
 *
 * All numbers, keys and data are hexadecimal, big-endian. Prints "RESULT OPERATION ok HEX" or
 * "RESULT OPERATION failed: why".
 */
#include <errno.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BYTES_MAX 4096

struct bytes {
	size_t length;
	unsigned char data[BYTES_MAX];
};

static const char *operation;

static void fail(const char *what)
{
	printf("RESULT %s failed: %s: %s\n", operation, what, strerror(errno));
	exit(1);
}

static struct bytes parse(const char *text)
{
	struct bytes bytes = { 0 };

	for (; sscanf(text, "%2hhx", &bytes.data[bytes.length]) == 1; text += 2)
		if (++bytes.length == BYTES_MAX)
			break;
	return bytes;
}

static int add_key(const char *type, const char *name, const char *text)
{
	struct bytes payload = parse(text);
	long key = syscall(SYS_add_key, type, name, payload.data, payload.length,
			   KEY_SPEC_PROCESS_KEYRING);

	if (key < 0)
		fail(name);
	return key;
}

static struct bytes dh(char **args)
{
	struct keyctl_dh_params params = {
		.prime = add_key("user", "prime", args[0]),
		.base = add_key("user", "base", args[1]),
		.private = add_key("user", "private", args[2]),
	};
	struct bytes result;
	long length = syscall(SYS_keyctl, KEYCTL_DH_COMPUTE, &params, result.data, BYTES_MAX, NULL);

	if (length < 0)
		fail("DH");
	result.length = length;
	return result;
}

static struct bytes with_private_key(int command, char **args)
{
	struct bytes input = parse(args[2]), result;
	struct keyctl_pkey_params params = {
		.key_id = add_key("asymmetric", "key", args[0]), .in_len = input.length,
	};
	struct keyctl_pkey_query query;
	long length;

	if (syscall(SYS_keyctl, KEYCTL_PKEY_QUERY, params.key_id, 0, args[1], &query) < 0)
		fail("query");
	params.out_len = query.key_size / 8;
	length = syscall(SYS_keyctl, command, &params, args[1], input.data, result.data);
	if (length < 0)
		fail(operation);
	result.length = length;
	return result;
}

int main(int count, char **args)
{
	static const struct {
		const char *name;
		int command;
	} commands[] = {
		{ "encrypt", KEYCTL_PKEY_ENCRYPT },
		{ "decrypt", KEYCTL_PKEY_DECRYPT },
		{ "sign", KEYCTL_PKEY_SIGN },
	};
	struct bytes result = { 0 };

	operation = count == 5 ? args[1] : "";
	if (!strcmp(operation, "dh"))
		result = dh(args + 2);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(operation, commands[i].name))
			result = with_private_key(commands[i].command, args + 2);
	if (result.length == 0) {
		fprintf(stderr, "usage: keys dh PRIME BASE PRIVATE\n"
				"       keys encrypt|decrypt|sign PKCS8 INFORMATION INPUT\n");
		return 2;
	}
	printf("RESULT %s ok ", operation);
	for (size_t i = 0; i < result.length; i++)
		printf("%02x", result.data[i]);
	printf("\n");
	return 0;
}
