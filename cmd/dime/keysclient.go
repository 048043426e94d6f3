package main

import (
	"net/http"
	"time"
)

// keysClient reads key sets: it follows no redirect and no proxy of the
// environment, so that the keys come from where the configuration says.
func keysClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 5 * time.Second, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
