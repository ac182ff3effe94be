/* pqtest.exe LIBPQ.dll CONNINFO: what a connection with the real Windows libpq ends as.

   Prints PQlibVersion, then encrypted, plaintext or fails, then libpq's message.  A process of its
   own for each connection: a root file that does not load leaves errors in OpenSSL's queue. */

#include <stdio.h>
#include <string.h>
#include <windows.h>

#define PQ(type, name, ...) ((type(*)(__VA_ARGS__))(void *)GetProcAddress(libpq, name))

int main(int count, char **words)
{
    char path[MAX_PATH];
    HMODULE libpq;
    void *connection, *rows;
    const char *encrypted;

    if (count != 3 || !GetFullPathNameA(words[1], MAX_PATH, path, NULL))
        return 2;
    /* The OpenSSL of a wheel lies beside its libpq. */
    libpq = LoadLibraryExA(path, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
    if (libpq == NULL) {
        fprintf(stderr, "%s does not load: error %lu\n", path, GetLastError());
        return 2;
    }
    printf("%d\n", PQ(int, "PQlibVersion", void)());
    connection = PQ(void *, "PQconnectdb", const char *)(words[2]);
    if (PQ(int, "PQstatus", void *)(connection) != 0 /* CONNECTION_OK */) {
        printf("fails\n%s", PQ(char *, "PQerrorMessage", void *)(connection));
        return 1;
    }
    /* The server is asked, not libpq. */
    rows = PQ(void *, "PQexec", void *, const char *)(
        connection, "select ssl from pg_stat_ssl where pid = pg_backend_pid()");
    encrypted = PQ(char *, "PQgetvalue", void *, int, int)(rows, 0, 0);
    if (encrypted == NULL)
        return 2;
    puts(strcmp(encrypted, "t") == 0 ? "encrypted" : "plaintext");
    PQ(void, "PQfinish", void *)(connection);
    return 0;
}
