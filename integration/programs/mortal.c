/* A client of OpenSSL that waits for its answer in one thread while many others call the library once and end: PORT PATH
 * THREADS GATE. The server answers once the file GATE exists, which is made when the last of them has ended. Linked with
 * the library alone: its headers are not needed.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;

const SSL_METHOD *TLS_client_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
SSL *SSL_new(SSL_CTX *);
int SSL_set_fd(SSL *, int);
void SSL_set_connect_state(SSL *);
void SSL_set_bio(SSL *, BIO *, BIO *);
int SSL_connect(SSL *);
int SSL_write(SSL *, const void *, int);
int SSL_read(SSL *, void *, int);
int SSL_shutdown(SSL *);
void SSL_free(SSL *);
const BIO_METHOD *BIO_s_mem(void);
BIO *BIO_new(const BIO_METHOD *);

static char answer[4096];

static void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "%s failed\n", what);
		exit(1);
	}
}

static void *wait_for_answer(void *ssl)
{
	check(SSL_read(ssl, answer, sizeof(answer)) > 0, "SSL_read");
	return NULL;
}

/* Nobody is at the other end. */
static void *call_once(void *ssl)
{
	char nothing[16];

	check(SSL_read(ssl, nothing, sizeof(nothing)) < 0, "nothing to read");
	return NULL;
}

int main(int count, char **words)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(words[1])) };
	int number = socket(AF_INET, SOCK_STREAM, 0), length;
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context), *idle = SSL_new(context);
	pthread_t waiting, mortal;
	char request[1024];

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(!connect(number, (struct sockaddr *)&address, sizeof(address)), "connect");
	check(SSL_set_fd(ssl, number) && SSL_connect(ssl) == 1, "SSL_connect");
	SSL_set_bio(idle, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(idle);
	length = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", words[2]);
	check(SSL_write(ssl, request, length) == length, "SSL_write");
	check(!pthread_create(&waiting, NULL, wait_for_answer, ssl), "pthread_create");
	usleep(200000);	/* until it is in the call; sooner, and the test proves less */
	for (int n = 0; n < atoi(words[3]); n++)
		check(!pthread_create(&mortal, NULL, call_once, idle) && !pthread_join(mortal, NULL), "pthread_create");
	check(close(creat(words[4], 0600)) == 0, "the gate");
	pthread_join(waiting, NULL);
	check(!strncmp(answer, "HTTP/1.1 200 OK\r\n", 17), "the answer");
	SSL_shutdown(ssl);
	SSL_free(ssl);
	return 0;
}
