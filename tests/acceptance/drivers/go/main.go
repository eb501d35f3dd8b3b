// go-sql-driver, plain, compressed, by TLS and both. Arguments: a port, and "plain" where the server has no TLS.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"
)

const lob = "CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE = InnoDB"

func main() {
	port := os.Args[1]
	modes := []string{"", "tls=skip-verify&"}
	if len(os.Args) > 2 && os.Args[2] == "plain" {
		modes = modes[:1]
	}
	for _, tls := range modes {
		for _, options := range []string{"", "compress=true", "interpolateParams=true"} {
			said, err := talk("driver:driver@tcp(127.0.0.1:" + port + ")/sbtest?" + tls + options)
			if err != nil {
				log.Fatal(tls, options, ": ", err)
			}
			fmt.Println("go-sql-driver", tls+options, said)
		}
	}
}

func talk(where string) (string, error) {
	pool, err := sql.Open("mysql", where)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	every := context.Background()
	connection, err := pool.Conn(every)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err = connection.ExecContext(every, lob); err != nil {
		return "", err
	}
	same, err := kept(every, connection)
	if err != nil {
		return "", err
	}
	var count int
	if err = connection.QueryRowContext(every, "SELECT COUNT(*) FROM lob").Scan(&count); err != nil {
		return "", err
	}
	var text string
	if err = connection.QueryRowContext(every, "SELECT REPEAT('x', 5000000)").Scan(&text); err != nil {
		return "", err
	}
	code := uint16(0)
	var refused *mysql.MySQLError
	if _, err = connection.ExecContext(every, "SELEC 1"); errors.As(err, &refused) {
		code = refused.Number
	}
	// The driver closes the connection, and the pool opens another.
	soon, cancel := context.WithTimeout(every, 300*time.Millisecond)
	defer cancel()
	_, late := connection.ExecContext(soon, "DO SLEEP(3)")
	connection.Close()
	var user string
	if err = pool.QueryRow("SELECT CURRENT_USER()").Scan(&user); err != nil {
		return "", err
	}
	return fmt.Sprint(same, " ", count, " ", len(text), " ", code, " ", late, " ", user), nil
}

// kept says whether a large value comes back as it was, in a transaction that is rolled back.
func kept(every context.Context, connection *sql.Conn) (bool, error) {
	transaction, err := connection.BeginTx(every, nil)
	if err != nil {
		return false, err
	}
	defer transaction.Rollback()
	blob := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	result, err := transaction.ExecContext(every, "INSERT INTO lob (b) VALUES (?)", blob)
	if err != nil {
		return false, err
	}
	key, err := result.LastInsertId()
	if err != nil {
		return false, err
	}
	var back []byte
	err = transaction.QueryRowContext(every, "SELECT b FROM lob WHERE id = ?", key).Scan(&back)
	return bytes.Equal(blob, back), err
}
