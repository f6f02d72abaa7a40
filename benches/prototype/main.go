// The prototype, which the benchmarks compare the probe with: a minimal health
// check with Go's net/http, database/sql and MySQL driver. It logs in for each
// request, queries the node's state, and answers 200 or 503.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	_ "github.com/go-sql-driver/mysql"
)

const timeout = 2 * time.Second

// variable returns the value of the query's only row, or "" without a row.
func variable(ctx context.Context, db *sql.Conn, query string) (string, error) {
	var name, value string
	err := db.QueryRowContext(ctx, query).Scan(&name, &value)
	if err == sql.ErrNoRows {
		return "", nil
	}
	return value, err
}

func check(ctx context.Context, dsn string) error {
	pool, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	db, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	state, err := variable(ctx, db, "SHOW STATUS LIKE 'wsrep_local_state'")
	if err != nil {
		return err
	}
	if state != "4" {
		return fmt.Errorf("wsrep_local_state is %q", state)
	}
	readOnly, err := variable(ctx, db, "SHOW VARIABLES LIKE 'read_only'")
	if err != nil {
		return err
	}
	if readOnly != "OFF" {
		return fmt.Errorf("read_only is %q", readOnly)
	}
	return nil
}

func main() {
	dsn := os.Getenv("PROTOTYPE_DSN")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		w.Header().Set("Connection", "close")
		if err := check(ctx, dsn); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "OK")
	})
	log.Fatal(http.ListenAndServe(os.Getenv("PROTOTYPE_LISTEN"), nil))
}
