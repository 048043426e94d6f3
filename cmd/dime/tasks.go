package main

import "github.com/dime-bus/dime/internal/gateway"

// tasks are what people ask of the admin face besides runs, events and documents.
func (s *server) tasks() map[string]gateway.AdminTask {
	return map[string]gateway.AdminTask{
		"POST /subjects/erase":           s.eraseTask,
		"POST /subjects/export":          s.exportTask,
		"GET /subjects/erasures":         s.erasuresTask,
		"POST /connectors/{name}/pause":  s.pauseTask,
		"POST /connectors/{name}/resume": s.resumeTask,
		"POST /runs/{run}/migrate":       s.moveTask,
		"GET /keys":                      s.keysTask,
		"POST /keys/rotate":              s.rotateTask,
		"POST /keys/finish":              s.finishTask,
		"GET /doctor":                    s.doctorTask,
		"GET /pauses":                    s.pausesTask,
	}
}
