// Go pgx, or lib/pq where the first argument says so.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v4"
	_ "github.com/lib/pq"
)

const question = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()"

func askPgx(dsn string) (ssl string, err error) {
	db, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		return "", err
	}
	defer db.Close(context.Background())
	err = db.QueryRow(context.Background(), question).Scan(&ssl)
	return ssl, err
}

func askPq(dsn string) (ssl string, err error) {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.QueryRow(question).Scan(&ssl)
	return ssl, err
}

func main() {
	ask := askPgx
	if len(os.Args) > 1 && os.Args[1] == "pq" {
		ask = askPq
	}
	fmt.Println("") // Debian's package knows its version, the library does not
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		given := strings.Split(lines.Text(), "\t")
		settings := url.Values{"sslmode": {given[2]}}
		if given[3] != "" {
			settings.Set("sslrootcert", given[3])
		}
		ssl, err := ask("postgres://app@" + given[0] + ":" + given[1] + "/postgres?" + settings.Encode())
		if err != nil {
			ssl = "-" + strings.ReplaceAll(err.Error(), "\n", "\x1f")
		}
		fmt.Println(ssl)
	}
}
