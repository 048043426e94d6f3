package run

import "time"

func (noObserver) RunStarted(string)                      {}
func (noObserver) RunEnded(string, string, time.Duration) {}
func (noObserver) Attempt(string, string, time.Duration)  {}
func (noObserver) Deferred(string, string)                {}
func (noObserver) Event(string, int)                      {}
func (noObserver) Commit(string, time.Duration)           {}
