// oneglance over HTTP with Go's standard library: go run client.go http://HOST:PORT ENROLL.png STRANGER.png
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// Refusal is what a call was refused with; Fields are paths in the request.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Debug struct {
			Reason          string `json:"reason"`
			FieldViolations []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"`
		} `json:"debug"`
	} `json:"details"`
}

func (r *Refusal) Error() string {
	words := []string{r.Code}
	if len(r.Details) > 0 {
		words = append(words, r.Details[0].Debug.Reason)
		for _, violation := range r.Details[0].Debug.FieldViolations {
			words = append(words, violation.Field)
		}
	}
	return strings.Join(words, " ")
}

type fields map[string]any

var client = &http.Client{Timeout: 30 * time.Second}

func call(server, method string, request fields, answer any) error {
	body, err := json.Marshal(request) // []byte becomes base64
	if err != nil {
		return err
	}
	post, err := http.NewRequest("POST", server+"/oneglance.v1."+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	if token := os.Getenv("ONEGLANCE_TOKEN"); token != "" {
		post.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(post)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		refusal := &Refusal{}
		if err := json.NewDecoder(response.Body).Decode(refusal); err != nil {
			return err
		}
		return refusal
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

func identify(server string, image []byte) (string, error) {
	var answer struct {
		Results []struct {
			SubjectID string `json:"subjectId"`
		} `json:"results"`
	}
	request := fields{"galleryId": "go", "probes": []fields{{"image": image}}}
	if err := call(server, "IdentificationService/Identify", request, &answer); err != nil {
		return "", err
	}
	if answer.Results[0].SubjectID == "" {
		return "unknown", nil
	}
	return answer.Results[0].SubjectID, nil
}

func run(server, enrolled, stranger string) error {
	var nothing fields
	if err := call(server, "GalleryService/CreateGallery", fields{"galleryId": "go"}, &nothing); err != nil {
		return err
	}
	for i, path := range []string{enrolled, stranger} {
		image, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if i == 0 {
			request := fields{"galleryId": "go", "subjectId": "ada", "examples": []fields{{"image": image}}}
			if err := call(server, "SubjectService/Enroll", request, &nothing); err != nil {
				return err
			}
		}
		who, err := identify(server, image)
		if err != nil {
			return err
		}
		fmt.Println(who)
	}
	_, err := identify(server, []byte{0, 0, 0}) // a mistake
	fmt.Println(err)
	return nil
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
