/* A client of OpenSSL that writes by SSL_write() and reads by way of a BIO, as some wrappers do: PORT RUN N [SILENT]. Over one
 * connection it asks for /r/RUN/0 to /r/RUN/N-1; with SILENT it asks once and ends without having read. Linked with the
 * libraries alone: their headers are not needed.
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
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;

const SSL_METHOD *TLS_client_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
SSL *SSL_new(SSL_CTX *);
int SSL_set_fd(SSL *, int);
int SSL_connect(SSL *);
int SSL_write(SSL *, const void *, int);
int SSL_shutdown(SSL *);
void SSL_free(SSL *);
const BIO_METHOD *BIO_f_ssl(void);
BIO *BIO_new(const BIO_METHOD *);
long BIO_ctrl(BIO *, int, long, void *);
int BIO_read(BIO *, void *, int);

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
	SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
	BIO *reader = BIO_new(BIO_f_ssl());
	char request[256], buffer[4096];
	int number = socket(AF_INET, SOCK_STREAM, 0), length;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(!connect(number, (struct sockaddr *)&address, sizeof(address)), "connect");
	check(SSL_set_fd(ssl, number) && SSL_connect(ssl) == 1, "SSL_connect");
	BIO_ctrl(reader, 109, 0, ssl);	/* BIO_set_ssl(), which leaves freeing to us */
	for (int n = 0; n < atoi(words[3]); n++) {
		length = snprintf(request, sizeof(request), "GET /r/%s/%d HTTP/1.1\r\nHost: localhost\r\n\r\n", words[2], n);
		check(SSL_write(ssl, request, length) == length, "SSL_write");
		if (count > 4)
			break;
		check(BIO_read(reader, buffer, sizeof(buffer)) > 0, "BIO_read");
		check(!strncmp(buffer, "HTTP/1.1 200 OK\r\n", 17), "the answer");
	}
	if (count <= 4)
		SSL_shutdown(ssl);
	SSL_free(ssl);
	close(number);
	return 0;
}
