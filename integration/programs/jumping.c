/* A client of OpenSSL that leaves SSL_read() by longjmp(), from a callback of its own: PORT RUN N. It asks for /r/RUN/n, n
 * below N, over one connection; of every answer it gives up to wait LEFT times, and then reads it. Linked with the library alone: its headers are not needed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BIO_CB_READ 2	/* before the library reads */
#define LEFT 11

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
typedef struct bio_st BIO;
typedef long (*callback)(BIO *, int, const char *, size_t, int, long, int, size_t *);

const SSL_METHOD *TLS_client_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
SSL *SSL_new(SSL_CTX *);
int SSL_set_fd(SSL *, int);
int SSL_connect(SSL *);
int SSL_write(SSL *, const void *, int);
int SSL_read(SSL *, void *, int);
int SSL_shutdown(SSL *);
void SSL_free(SSL *);
BIO *SSL_get_rbio(const SSL *);
void BIO_set_callback_ex(BIO *, callback);

static jmp_buf out;
static int gives_up;
static char buffers[LEFT / 2 + 1][4096];

static long before_read(BIO *bio, int what, const char *data, size_t length, int argument, long number, int result,
			size_t *processed)
{
	if (what == BIO_CB_READ && gives_up)
		longjmp(out, 1);
	return result;
}

/* Two calls each into one buffer, ever deeper in the stack; all but the last are left. */
static __attribute__((noinline)) int read_at_last(SSL *ssl, int left)
{
	char room[200];
	int count;

	asm volatile("" : : "r"(room) : "memory");
	gives_up = left > 0;
	if (!setjmp(out))
		count = SSL_read(ssl, buffers[left / 2], sizeof(buffers[0]));
	else
		count = read_at_last(ssl, left - 1);
	asm volatile("" : : "r"(room) : "memory");
	return count;
}

static void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "%s failed\n", what);
		exit(1);
	}
}

int main(int count, char **words)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(words[1])) };
	int number = socket(AF_INET, SOCK_STREAM, 0), length;
	SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
	char request[256];

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(!connect(number, (struct sockaddr *)&address, sizeof(address)), "connect");
	check(SSL_set_fd(ssl, number) && SSL_connect(ssl) == 1, "SSL_connect");
	BIO_set_callback_ex(SSL_get_rbio(ssl), before_read);
	for (int n = 0; n < atoi(words[3]); n++) {
		length = snprintf(request, sizeof(request), "GET /r/%s/%d HTTP/1.1\r\nHost: localhost\r\n\r\n", words[2], n);
		check(SSL_write(ssl, request, length) == length, "SSL_write");
		check(read_at_last(ssl, LEFT) > 0, "SSL_read");
		check(!strncmp(buffers[0], "HTTP/1.1 200 OK\r\n", 17), "the answer");
	}
	SSL_shutdown(ssl);
	SSL_free(ssl);
	return 0;
}
