// Shows openapi.json in Swagger UI. The address is relative to this file, so that it holds behind a path prefix, too.
SwaggerUIBundle({
    url: new URL('../openapi.json', document.currentScript.src).href,
    dom_id: '#swagger-ui',
    deepLinking: true,
    displayRequestDuration: true,
    validatorUrl: null, // no other host is asked
})
