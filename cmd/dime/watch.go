package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long the files must have been still before they are read: an
// editor or a copy writes several times.
const settle = 25 * time.Millisecond

// watch reloads the content whenever something below it changes.
func (s *server) watch(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the content: %w", err)
	}
	if err := s.watchFolders(w); err != nil {
		_ = w.Close()
		return fmt.Errorf("watching the content: %w", err)
	}
	go func() {
		defer func() { _ = w.Close() }()
		timer := time.NewTimer(0)
		<-timer.C
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-w.Events:
				if !ok {
					return
				}
				// What lies beside the content is not ours: a log file there would
				// otherwise have the content read for each line that reading it logs.
				if filepath.Dir(e.Name) != filepath.Clean(s.content.dir) || slices.Contains(tops(), filepath.Base(e.Name)) {
					timer.Reset(settle)
				}
			case err, ok := <-w.Errors:
				if !ok {
					return
				}
				s.log.Error("watching the content", "err", err)
				timer.Reset(settle) // events may have been lost: read anew
			case <-timer.C:
				if err := s.watchFolders(w); err != nil {
					s.log.Error("watching the content", "err", err)
				}
				s.reload()
			}
		}
	}()
	return nil
}

// watchFolders adds every folder of the content that is not watched yet.
func (s *server) watchFolders(w *fsnotify.Watcher) error {
	if err := w.Add(s.content.dir); err != nil {
		return err
	}
	for _, top := range tops() {
		err := filepath.WalkDir(filepath.Join(s.content.dir, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			return w.Add(p)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// reload reads the content again; on any mistake the set in force stays.
func (s *server) reload() {
	start := time.Now()
	s.content.leftOut = nil
	err := s.load(s.engine.City())
	if aerr := s.trail.Reloaded(s.content, tops(), err); aerr != nil {
		s.log.Error("a change of the content is not in the audit", "error", aerr)
	}
	s.metrics.Reloaded(time.Now(), err == nil)
	var refused refusedError
	switch {
	case err == nil:
		s.log.Info("reloaded the content", "took", time.Since(start).Round(time.Millisecond), "routes", len(s.engine.Routes()))
	case errors.As(err, &refused):
		for _, p := range refused.problems {
			s.log.Error("refused a change of the content; the set in force stays", "problem", p.String())
		}
	default:
		s.log.Error("refused a change of the content; the set in force stays", "err", err)
	}
}
