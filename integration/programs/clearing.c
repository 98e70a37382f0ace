/* A client of OpenSSL that uses one SSL for several connections, one after the other, as libevent's does where it connects
 * again: PORT RUN N [WAIT]. Over each of N connections it asks for /r/RUN/n/0 and /r/RUN/n/1; every other one it ends without
 * a word to its peer. While it waits for an answer another holder frees the SSL, which stays. With WAIT it begins when it
 * is told a line. It writes by SSL_write_ex2, and says so, where the library has that (OpenSSL 3.3). Linked with the library alone: its headers are not needed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;

const SSL_METHOD *TLS_client_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
SSL *SSL_new(SSL_CTX *);
int SSL_clear(SSL *);
int SSL_set_fd(SSL *, int);
int SSL_connect(SSL *);
int SSL_write(SSL *, const void *, int);
int SSL_write_ex2(SSL *, const void *, size_t, unsigned long, size_t *) __attribute__((weak));
int SSL_read(SSL *, void *, int);
int SSL_shutdown(SSL *);
int SSL_up_ref(SSL *);
void SSL_free(SSL *);

static void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "%s failed\n", what);
		exit(1);
	}
}

static int write_all(SSL *ssl, const char *data, int length)
{
	size_t written = 0;

	if (!SSL_write_ex2)
		return SSL_write(ssl, data, length) == length;
	return SSL_write_ex2(ssl, data, length, 0, &written) == 1 && written == (size_t)length;
}

int main(int count, char **words)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(words[1])) };
	SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
	char request[256], buffer[4096];
	int number, length;

	check(count < 5 || fgets(buffer, sizeof(buffer), stdin), "a line");
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int n = 0; n < atoi(words[3]); n++) {
		number = socket(AF_INET, SOCK_STREAM, 0);
		check(!connect(number, (struct sockaddr *)&address, sizeof(address)), "connect");
		check(SSL_set_fd(ssl, number) && SSL_connect(ssl) == 1, "SSL_connect");
		for (int m = 0; m < 2; m++) {
			length = snprintf(request, sizeof(request), "GET /r/%s/%d/%d HTTP/1.1\r\nHost: localhost\r\n\r\n", words[2], n, m);
			SSL_up_ref(ssl);
			check(write_all(ssl, request, length), "SSL_write");
			SSL_free(ssl);
			check(SSL_read(ssl, buffer, sizeof(buffer)) > 0, "SSL_read");
			check(!strncmp(buffer, "HTTP/1.1 200 OK\r\n", 17), "the answer");
		}
		if (n % 2)
			SSL_shutdown(ssl);
		close(number);
		check(SSL_clear(ssl) == 1, "SSL_clear");
	}
	SSL_free(ssl);
	puts(SSL_write_ex2 ? "SSL_write_ex2" : "SSL_write");
	return 0;
}
