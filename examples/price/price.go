// The last service: GET /prices/N, in 5 to 24 ms; the price of article 17 is a riddle.
package main

import (
	"fmt"
	"log"
	"net/http"
	"strconv"
	"time"
)

func main() {
	http.HandleFunc("GET /prices/{article}", func(w http.ResponseWriter, r *http.Request) {
		article, err := strconv.Atoi(r.PathValue("article"))
		if err != nil {
			http.Error(w, "no such article", http.StatusNotFound)
			return
		}
		time.Sleep(time.Duration(5+article%20) * time.Millisecond)
		if article == 17 {
			http.Error(w, "no price", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%d.99", article)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
