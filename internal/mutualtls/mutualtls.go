// Package mutualtls serves listeners to callers who show a certificate.
package mutualtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Files are what a listener shows and asks for, all in PEM.
type Files struct {
	Certificate, Key string
	ClientCA         string // callers must show a certificate signed by one of these
}

// Listen serves a listener with TLS that asks callers for a certificate. The
// files are read anew when one of them has changed; while the new ones are not
// whole, the old ones stay.
func Listen(l net.Listener, t Files) (net.Listener, error) {
	r := &rotating{files: t}
	if _, err := r.config(); err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return r.config()
		},
	}), nil
}

type rotating struct {
	files Files

	mu      sync.Mutex
	changed [3]time.Time
	current *tls.Config
}

func (r *rotating) config() (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var changed [3]time.Time
	for i, name := range []string{r.files.Certificate, r.files.Key, r.files.ClientCA} {
		info, err := os.Stat(name)
		if err != nil {
			if r.current != nil {
				return r.current, nil
			}
			return nil, fmt.Errorf("reading soap_tls: %w", err)
		}
		changed[i] = info.ModTime()
	}
	if r.current != nil && changed == r.changed {
		return r.current, nil
	}
	c, err := readTLS(r.files)
	if err != nil {
		if r.current != nil {
			return r.current, nil
		}
		return nil, err
	}
	r.current, r.changed = c, changed
	return c, nil
}

func readTLS(t Files) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("reading soap_tls: %w", err)
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading soap_tls: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading soap_tls: %s holds no certificate in PEM", t.ClientCA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}, nil
}
