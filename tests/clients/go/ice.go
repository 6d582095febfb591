//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pion/ice/v4"
)

// iceMux connects two agents, each on a mux over one packet conn, and exchanges datagrams.
func iceMux(listen listener) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var agents [2]*ice.Agent
	for i := range agents {
		mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: listen("udp4", "127.0.0.1:0")})
		defer mux.Close()
		agent, err := ice.NewAgent(&ice.AgentConfig{
			NetworkTypes:    []ice.NetworkType{ice.NetworkTypeUDP4},
			CandidateTypes:  []ice.CandidateType{ice.CandidateTypeHost},
			UDPMux:          mux,
			IncludeLoopback: true,
		})
		if err != nil {
			return "", err
		}
		defer agent.Close()
		agents[i] = agent
	}
	for i, agent := range agents {
		other := agents[1-i]
		check(agent.OnCandidate(func(c ice.Candidate) {
			if c == nil {
				return
			}
			copied, err := ice.UnmarshalCandidate(c.Marshal())
			check(err)
			check(other.AddRemoteCandidate(copied))
		}))
	}
	for _, agent := range agents {
		check(agent.GatherCandidates())
	}
	fragments := [2][2]string{}
	for i, agent := range agents {
		name, password, err := agent.GetLocalUserCredentials()
		check(err)
		fragments[i] = [2]string{name, password}
	}
	dialed := make(chan error, 1)
	echoed := 0
	go func() {
		conn, err := agents[0].Accept(ctx, fragments[1][0], fragments[1][1])
		dialed <- err
		if err != nil {
			return
		}
		b := make([]byte, 2000)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			_, _ = conn.Write(b[:n])
		}
	}()
	conn, err := agents[1].Dial(ctx, fragments[0][0], fragments[0][1])
	if err != nil {
		return "", err
	}
	if err := <-dialed; err != nil {
		return "", err
	}
	b := make([]byte, 2000)
	for i := range 200 {
		if _, err := conn.Write(fmt.Appendf(nil, "datagram %d", i)); err != nil {
			return "", err
		}
		check(conn.SetReadDeadline(time.Now().Add(5 * time.Second)))
		n, err := conn.Read(b)
		if err == nil && string(b[:n]) == fmt.Sprint("datagram ", i) {
			echoed++
		}
	}
	return fmt.Sprint(echoed, " of 200 echoed"), nil
}
